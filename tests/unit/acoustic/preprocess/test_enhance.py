"""The guide's enhancement, by physics: known noise, distortion of a sine."""

from __future__ import annotations

import numpy as np
import pytest

from acoustic.preprocess.enhance import (
    EnhanceConfig,
    compress_samples,
    enhance,
    subtract_first_second,
)
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from tests.support.sounds import encode, noise, tone

RATE = 22_050


def distortion(samples: np.ndarray) -> float:
    """Share of the amplitude outside the fundamental, in [0, 1]."""
    # A Hann window spreads a sine over about ±2 bins; ±3 around the peak hold its power.
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size))) ** 2
    peak = int(spectrum.argmax())
    return float(np.sqrt(1 - spectrum[peak - 3 : peak + 4].sum() / spectrum.sum()))


def test_the_guides_compressor_distorts() -> None:
    sine = tone(441, 4.0, level=1.0)
    assert distortion(sine) < 1e-3
    assert 0.2 < distortion(compress_samples(sine)) < 0.35


def test_the_guides_subtraction_halves_the_noise_of_the_first_second() -> None:
    """White noise: half of the mean magnitude is subtracted, so power falls by 2 to 6 dB."""
    sound = noise(6.0)
    after = subtract_first_second(sound, RATE)
    assert after.size == sound.size
    fallen_db = 10 * np.log10(np.mean(sound**2) / np.mean(after**2))
    assert 2 < fallen_db < 6
    music_at_once = tone(440, 6.0)
    kept = subtract_first_second(music_at_once, RATE)
    assert 10 * np.log10(np.mean(music_at_once**2) / np.mean(kept**2)) > 5


def test_off_means_nothing_is_touched() -> None:
    assert not EnhanceConfig().is_on
    samples = noise(2.0)
    assert enhance(samples, RATE, EnhanceConfig()) is samples


@pytest.mark.parametrize(
    "config", [EnhanceConfig(denoise="guide"), EnhanceConfig(compress="guide")]
)
def test_quality_is_measured_on_the_sound_as_it_came(config: EnhanceConfig) -> None:
    data = encode(noise(20.0), RATE)
    plain = Preprocessor(PreprocessConfig()).process(data, "balanced")
    changed = Preprocessor(PreprocessConfig(enhance=config)).process(data, "balanced")
    assert changed.facts.quality == plain.facts.quality
    assert changed.facts.front_end_digest != plain.facts.front_end_digest
    assert not np.array_equal(changed.log_mel, plain.log_mel)


@pytest.mark.parametrize("bad", [{"denoise": "quantile"}, {"compress": "level"}])
def test_unknown_enhancements_are_refused(bad: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="known are none and guide"):
        EnhanceConfig(**bad)  # type: ignore[arg-type]
