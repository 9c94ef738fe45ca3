"""Enhancement, by physics: known noise, known ratios, distortion of a sine."""

from __future__ import annotations

import numpy as np
import pytest

from acoustic.preprocess.enhance import (
    EnhanceConfig,
    Enhancer,
    compress_levels,
    estimate_noise,
    frame_levels_db,
    subtract_noise,
)
from acoustic.preprocess.enhance_seed import compress_samples, subtract_first_second
from acoustic.preprocess.mel import MelConfig, MelSpectrogram
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from tests.sounds import encode, noise, tone

RATE = 22_050
MEL = MelConfig()
QUANTILE = EnhanceConfig(denoise="quantile")
LEVEL = EnhanceConfig(compress="level")


def bins_of(samples: np.ndarray) -> np.ndarray:
    kept: list[np.ndarray] = []
    MelSpectrogram(MEL).power(samples, lambda bins: kept.append(bins) or bins)
    return kept[0]


def pulses(duration_s: float, hz: float = 1000.0) -> np.ndarray:
    """A tone that is on half of the time, so that its bins have quiet frames."""
    is_on = (np.arange(round(duration_s * RATE)) // (RATE // 4)) % 2
    return np.asarray(tone(hz, duration_s) * is_on, np.float32)


def test_the_noise_floor_of_white_noise_is_its_mean_power() -> None:
    bins = bins_of(noise(20.0))
    estimate = estimate_noise(bins, 0.2)[40:-40]
    assert estimate.mean() == pytest.approx(bins[:, 40:-40].mean(), rel=0.1)


def test_a_held_tone_is_no_noise() -> None:
    held = tone(1000, 6.0)
    mixed = bins_of(held + noise(6.0, level=0.02))
    peak = round(1000 * MEL.n_fft / RATE)
    assert estimate_noise(mixed, 0.2)[peak] < 1e-3 * mixed[:, peak].mean()
    kept = subtract_noise(mixed, EnhanceConfig(denoise="quantile", max_snr_db=100))
    assert kept[:, peak].mean() == pytest.approx(mixed[:, peak].mean(), rel=0.01)


@pytest.mark.parametrize("snr_db", [0, 10])
def test_known_noise_is_taken_off(snr_db: float) -> None:
    """Noise alone, between the pulses, falls by 7.8 dB; the pulses stay.

    Its power P is exponential with mean N, and max(P − 2 N, P / 20) has the mean 0.165 N.
    """
    clean = pulses(10.0)
    level = np.sqrt(np.mean(clean**2) / 10 ** (snr_db / 10))
    mixed = bins_of(clean + noise(10.0, level=level))
    after = subtract_noise(mixed, QUANTILE)
    loud = frame_levels_db(bins_of(clean), MEL) > -9
    quiet = frame_levels_db(bins_of(clean), MEL) < -60
    removed_db = 10 * np.log10(mixed[quiet].sum() / after[quiet].sum())
    peak = round(1000 * MEL.n_fft / RATE)
    assert removed_db == pytest.approx(7.8, abs=0.8)
    assert after[loud, peak].sum() == pytest.approx(mixed[loud, peak].sum(), rel=0.1)


def test_clean_sound_passes_the_gate_untouched() -> None:
    clean = bins_of(pulses(6.0) + noise(6.0, level=1e-3))
    assert subtract_noise(clean, QUANTILE) is clean


@pytest.mark.parametrize("ratio", [2.0, 4.0])
def test_the_compressor_has_its_ratio(ratio: float) -> None:
    """Two steady sines 10 dB apart above the threshold come out 10 / ratio dB apart."""
    config = EnhanceConfig(compress="level", ratio=ratio)
    out = [
        frame_levels_db(compress_levels(bins_of(tone(500, 6.0, level=x)), config, MEL), MEL)[-20:]
        for x in (1.0, 10 ** (-10 / 20))
    ]
    assert np.mean(out[0] - out[1]) == pytest.approx(10 / ratio, abs=0.05)
    soft = bins_of(tone(500, 6.0, level=0.05))
    np.testing.assert_allclose(compress_levels(soft, config, MEL), soft, rtol=1e-6)


def test_the_level_of_a_full_scale_sine_is_zero() -> None:
    assert frame_levels_db(bins_of(tone(1000, 2.0, level=1.0)), MEL) == pytest.approx(0, abs=0.05)


def test_attack_is_faster_than_release() -> None:
    step = np.concatenate([tone(500, 2.0, level=0.01), tone(500, 2.0, level=1.0)])
    bins = bins_of(np.concatenate([step, step[::-1]]))
    gains_db = 10 * np.log10(compress_levels(bins, LEVEL, MEL).sum(1) / bins.sum(1))
    settled = np.abs(gains_db + 15) < 0.5
    first, last = np.flatnonzero(settled)[[0, -1]]
    assert first * MEL.hop_length / RATE < 2.2
    later = gains_db[last + 1 :]
    assert later[1] < -5
    assert later[-1] > -0.5


def distortion(samples: np.ndarray) -> float:
    """Share of the amplitude that is not in the fundamental."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size))) ** 2
    peak = int(spectrum.argmax())
    return float(np.sqrt(1 - spectrum[peak - 3 : peak + 4].sum() / spectrum.sum()))


def test_the_guides_compressor_distorts_and_ours_does_not() -> None:
    sine = tone(441, 4.0, level=1.0)
    assert distortion(sine) < 1e-3
    assert 0.2 < distortion(compress_samples(sine)) < 0.35
    bins = bins_of(sine)
    after = compress_levels(bins, LEVEL, MEL)
    shape = bins / bins.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(after / after.sum(axis=1, keepdims=True), shape, atol=1e-6)


def test_the_guides_subtraction_halves_the_noise_it_heard_first() -> None:
    """White noise: half of the mean magnitude goes, so power falls by 2 to 5 dB, not more."""
    sound = noise(6.0)
    after = subtract_first_second(sound, RATE)
    assert after.size == sound.size
    fallen_db = 10 * np.log10(np.mean(sound**2) / np.mean(after**2))
    assert 2 < fallen_db < 6
    music_at_once = tone(440, 6.0)
    kept = subtract_first_second(music_at_once, RATE)
    assert 10 * np.log10(np.mean(music_at_once**2) / np.mean(kept**2)) > 5


def test_off_means_nothing_is_touched() -> None:
    assert not Enhancer(EnhanceConfig(), MEL).is_on
    data = encode(noise(20.0), RATE)
    plain = Preprocessor(PreprocessConfig()).process(data, "balanced")
    for config in (QUANTILE, LEVEL, EnhanceConfig(denoise="seed"), EnhanceConfig(compress="seed")):
        changed = Preprocessor(PreprocessConfig(enhance=config)).process(data, "balanced")
        assert changed.quality == plain.quality
        assert changed.front_end_digest != plain.front_end_digest
        assert not np.array_equal(changed.log_mel, plain.log_mel) or config is LEVEL


@pytest.mark.parametrize(
    "bad",
    [{"denoise": "magic"}, {"ratio": 0.5}, {"noise_quantile": 1.0}, {"over_subtraction": -1.0}],
)
def test_settings_that_cannot_work_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        EnhanceConfig(**bad)  # type: ignore[arg-type]
