"""The guide's own enhancement (its section 4.1), kept so that its claims can be tested.

Neither is recommended: the subtraction takes whatever sounds in the first second for noise, and
the compressor bends the wave sample by sample, which is distortion. `enhance` has better ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.signal import istft, stft

Samples = npt.NDArray[np.float32]

N_FFT, HOP = 2048, 512
NOISE_S = 1.0
OVER_SUBTRACTION = 0.5
FLOOR_RATIO = 0.01
THRESHOLD_DB = -20.0
RATIO = 4.0


def subtract_first_second(samples: Samples, sample_rate: int) -> Samples:
    """Spectral subtraction whose noise is the mean magnitude of the first second.

    Args:
        samples: (n,) float32.
        sample_rate: Hz.

    Returns:
        (n,) float32; half of the noise is taken off each magnitude, 1 % of it stays, and the
        phase is kept.
    """
    _, _, spectrum = stft(samples, sample_rate, nperseg=N_FFT, noverlap=N_FFT - HOP)
    magnitude = np.abs(spectrum)
    n_noise = max(1, round(NOISE_S * sample_rate / HOP))
    noise = magnitude[:, :n_noise].mean(axis=1, keepdims=True)
    left = np.maximum(magnitude - OVER_SUBTRACTION * noise, FLOOR_RATIO * magnitude)
    changed = spectrum * left / np.maximum(magnitude, 1e-12)
    _, waveform = istft(changed, sample_rate, nperseg=N_FFT, noverlap=N_FFT - HOP)
    return np.asarray(np.resize(waveform, samples.size), np.float32)


def compress_samples(samples: Samples) -> Samples:
    """Every sample above −20 dB full scale is turned down to a quarter of its excess in dB."""
    level_db = 20 * np.log10(np.maximum(np.abs(samples), 1e-10))
    over_db = np.maximum(level_db - THRESHOLD_DB, 0)
    return np.asarray(samples * np.power(10.0, -over_db * (1 - 1 / RATIO) / 20), np.float32)
