"""Our own enhancement, checked by physics: known noise, known ratios, distortion of a sine."""

from __future__ import annotations

import numpy as np
import pytest

from acoustic.geometry import MelConfig
from acoustic.preprocess.mel import MelSpectrogram
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from benchmarks.claims.own_enhancement import (
    EnhanceConfig,
    EnhancingPreprocessor,
    compress_levels,
    estimate_noise,
    frame_levels_db,
    subtract_noise,
)
from tests.support.sounds import encode, noise, tone

RATE = 22_050
MEL = MelConfig()
QUANTILE = EnhanceConfig(denoise=True)
LEVEL = EnhanceConfig(compress=True)


def bins_of(samples: np.ndarray) -> np.ndarray:
    return MelSpectrogram(MEL).bins(samples)


def pulses(duration_s: float, hz: float = 1000.0) -> np.ndarray:
    """A tone that is on half of the time (0.25 s on, 0.25 s off), so its bins have quiet frames."""
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
    kept = subtract_noise(mixed, EnhanceConfig(denoise=True, max_snr_db=100))
    assert kept[:, peak].mean() == pytest.approx(mixed[:, peak].mean(), rel=0.01)


@pytest.mark.parametrize("snr_db", [0, 10])
def test_known_noise_is_taken_off(snr_db: float) -> None:
    """Noise between the pulses falls by 7.8 dB; the pulses stay.

    The noise power P is exponential with mean N, and max(P − 2 N, P / 20) has the mean 0.165 N.
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
    """Two steady sines 10 dB apart, above the threshold, are 10 / ratio dB apart afterwards."""
    config = EnhanceConfig(compress=True, ratio=ratio)
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


def test_the_compressor_keeps_the_shape_of_the_spectrum() -> None:
    bins = bins_of(tone(441, 4.0, level=1.0))
    after = compress_levels(bins, LEVEL, MEL)
    shape = bins / bins.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(after / after.sum(axis=1, keepdims=True), shape, atol=1e-6)


def test_quality_is_measured_on_the_sound_as_it_came() -> None:
    data = encode(noise(20.0), RATE)
    plain = Preprocessor(PreprocessConfig()).process(data, "balanced")
    for config in (QUANTILE, LEVEL):
        changed = EnhancingPreprocessor(PreprocessConfig(), config).process(data, "balanced")
        assert changed.facts.quality == plain.facts.quality
        assert not np.array_equal(changed.log_mel, plain.log_mel) or config is LEVEL
