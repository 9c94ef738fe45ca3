"""Quality measures on sounds with known values."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from acoustic.geometry import MelConfig
from acoustic.preprocess import quality
from acoustic.preprocess.mel import MelSpectrogram
from acoustic.preprocess.quality import bandwidth_hz, measure_quality, snr_estimate_db
from acoustic.types import Quality
from tests.support.properties import quick
from tests.support.sounds import Samples, noise, tone

MEL = MelConfig()


def quality_of(waveform: Samples) -> Quality:
    return measure_quality([waveform], 0.0, MelSpectrogram(MEL).power(waveform), MEL)


def test_level_of_a_sine() -> None:
    """A sine with half the full-scale amplitude has −9.03 dB RMS."""
    assert quality_of(tone(440, 6.0)).rms_db == pytest.approx(-9.03, abs=0.02)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.8])
def test_silence_ratio(ratio: float) -> None:
    waveform = tone(440, 6.0)
    waveform[: round(ratio * waveform.size)] = 0
    assert quality_of(waveform).silence_ratio == pytest.approx(ratio, abs=0.02)


@pytest.mark.parametrize("cutoff_hz", [1500.0, 3000.0, 6000.0])
def test_bandwidth_finds_the_cutoff(cutoff_hz: float) -> None:
    sos = scipy.signal.butter(20, cutoff_hz, fs=MEL.sample_rate, output="sos")
    filtered = scipy.signal.sosfilt(sos, noise(6.0)).astype(np.float32)
    found = bandwidth_hz(MelSpectrogram(MEL).power(filtered), MEL)
    assert cutoff_hz < found < 2 * cutoff_hz


def test_bandwidth_of_white_noise_is_all_of_it() -> None:
    assert bandwidth_hz(MelSpectrogram(MEL).power(noise(6.0)), MEL) > 10_000


def test_snr_rises_with_the_signal() -> None:
    pulses = noise(6.0, level=0.5, seed=1) * (np.arange(6 * 22_050) % 11_025 < 3000)
    estimates = [
        snr_estimate_db(MelSpectrogram(MEL).power(pulses + noise(6.0, level=level)))
        for level in (0.3, 0.03, 0.003)
    ]
    assert estimates == sorted(estimates)
    assert estimates[2] - estimates[0] > 15


def test_all_finite_on_digital_silence() -> None:
    measured = quality_of(np.zeros(MEL.window_samples, np.float32))
    assert np.isfinite([getattr(measured, name) for name in Quality.__slots__]).all()


def test_noise_shows_in_the_bands_where_the_music_is_weak() -> None:
    """White noise at 0 dB SNR under a low tone: half of the power, but most of the bands."""
    pulses = tone(200, 6.0) * (np.arange(6 * 22_050) % 11_025 < 3000)
    clean = snr_estimate_db(MelSpectrogram(MEL).power(pulses + noise(6.0, level=1e-4)))
    level = float(np.sqrt(np.mean(pulses**2)))
    noisy = snr_estimate_db(MelSpectrogram(MEL).power(pulses + noise(6.0, level=level)))
    assert noisy < 6.5 < clean


@quick
@given(n=st.integers(1, 60), share=st.floats(0, 0.9), seed=st.integers(0, 99))
def test_the_low_quantile_is_that_of_numpy(n: int, share: float, seed: int) -> None:
    values = np.random.default_rng(seed).exponential(size=(3, n)).astype(np.float32)
    expected = np.quantile(values, share, axis=1)
    np.testing.assert_allclose(quality._low_quantile(values, share), expected, rtol=1e-5)
