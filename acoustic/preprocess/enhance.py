"""The guide's noise reduction and compressor (its section 4.1), off by default.

Both work on the samples of each window before the spectrogram. Neither is recommended: the
subtraction takes whatever sounds in the first second for noise, and the compressor bends the wave
sample by sample, which is distortion. docs/claims.md has their measured effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Enhancement = Literal["none", "guide"]
Samples = npt.NDArray[np.float32]

N_FFT, HOP = 2048, 512
NOISE_S = 1.0
OVER_SUBTRACTION = 0.5
FLOOR_RATIO = 0.01
GUIDE_THRESHOLD_DB = -20.0
GUIDE_RATIO = 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class EnhanceConfig:
    """What is done to the sound before the spectrogram.

    Attributes:
        denoise: "none", or "guide" for its spectral subtraction.
        compress: "none", or "guide" for its compressor.
    """

    denoise: Enhancement = "none"
    compress: Enhancement = "none"

    def __post_init__(self) -> None:
        for name in ("denoise", "compress"):
            value = getattr(self, name)
            if value not in get_args(Enhancement):
                raise ValueError(f"{name} is {value!r}, known are none and guide")

    @property
    def is_on(self) -> bool:
        """Whether anything is changed."""
        return (self.denoise, self.compress) != ("none", "none")


def enhance(samples: Samples, sample_rate: int, config: EnhanceConfig) -> Samples:
    """The samples after the configured changes; the input itself where all are off.

    Args:
        samples: (n,) float32 of one window.
        sample_rate: sample rate, Hz.
        config: which changes.
    """
    if config.denoise == "guide":
        samples = subtract_first_second(samples, sample_rate)
    return compress_samples(samples) if config.compress == "guide" else samples


def subtract_first_second(samples: Samples, sample_rate: int) -> Samples:
    """Spectral subtraction whose noise is the mean magnitude of the first second.

    Args:
        samples: (n,) float32.
        sample_rate: Hz.

    Returns:
        (n,) float32; half of the noise is taken off each magnitude, 1 % of it stays, and the
        phase is kept.
    """
    from scipy.signal import istft, stft  # slow to import, and hardly ever used

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
    over_db = np.maximum(level_db - GUIDE_THRESHOLD_DB, 0)
    return np.asarray(samples * np.power(10.0, -over_db * (1 - 1 / GUIDE_RATIO) / 20), np.float32)
