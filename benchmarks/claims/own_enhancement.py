"""Our own noise reduction and compressor, which docs/claims.md compares with the guide's.

Neither helps: both are measured here and are not part of the product. They work on the power of
the STFT, before the mel bands and without an inverse transform.

denoise   a noise floor per bin, from its quiet frames, smoothed over frequency so that a sustained
          tone is not treated as noise; it is subtracted where the window's signal-to-noise ratio
          is low. Sources: Martin, Noise Power Spectral Density Estimation Based on Optimal
          Smoothing and Minimum Statistics (2001); Berouti, Schwartz and Makhoul, Enhancement of
          Speech Corrupted by Acoustic Noise (1979), for the spectral floor.
compress  a downward compressor on the level of each frame, with attack and release, so that it
          changes levels and makes no harmonics. Source: Giannoulis, Massberg and Reiss, Digital
          Dynamic Range Compressor Design (2012).

Shapes: T frames, K frequency bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from acoustic.geometry import MelConfig
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor

Powers = npt.NDArray[np.float32]
Samples = npt.NDArray[np.float32]

FULL_SCALE_SINE_RMS_DB = 10 * math.log10(0.5)
SMOOTHED_BINS = 31
"""Width of the median over frequency, 334 Hz at the default geometry: wider than a held tone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnhanceConfig:
    """Strengths of our own enhancement.

    Attributes:
        denoise: whether steady noise is subtracted.
        compress: whether loud frames are turned down.
        noise_quantile: share of a bin's frames taken as its noise, in (0, 1).
        over_subtraction: multiple of the noise that is subtracted.
        floor_ratio: share of a bin's power that always stays, in (0, 1].
        max_snr_db: windows above this estimated signal-to-noise ratio are left alone, dB.
        threshold_db: level above which the compressor acts, dB full scale.
        ratio: dB in over dB out above the threshold, at least 1.
        attack_s: time constant while the level rises, seconds.
        release_s: time constant while the level falls, seconds.
    """

    denoise: bool = False
    compress: bool = False
    noise_quantile: float = 0.2
    over_subtraction: float = 2.0
    floor_ratio: float = 0.05
    max_snr_db: float = 15.0
    threshold_db: float = -20.0
    ratio: float = 4.0
    attack_s: float = 0.01
    release_s: float = 0.2


class EnhancingPreprocessor(Preprocessor):
    """Stage 1 with our own enhancement between the STFT and the mel bands.

    Args:
        config: settings of stage 1.
        enhance: strengths.
    """

    def __init__(self, config: PreprocessConfig, enhance: EnhanceConfig) -> None:
        super().__init__(config)
        self._strengths = enhance

    def enhanced_powers(self, windows: list[Samples], powers: list[Powers]) -> list[Powers]:
        """Mel powers of the windows after enhancement."""
        spectrogram, strengths = self.spectrogram, self._strengths
        found = []
        for samples in windows:
            bins = spectrogram.bins(samples)
            if strengths.denoise:
                bins = subtract_noise(bins, strengths)
            if strengths.compress:
                bins = compress_levels(bins, strengths, self.config.mel)
            found.append(spectrogram.to_mel(bins))
        return found


def subtract_noise(bins: Powers, config: EnhanceConfig) -> Powers:
    """Power without its steady noise.

    Args:
        bins: (T, K) power.
        config: strengths and the gate.

    Returns:
        (T, K); the input itself where the window is clean enough.
    """
    noise = estimate_noise(bins, config.noise_quantile)
    if estimated_snr_db(bins, noise) > config.max_snr_db:
        return bins
    left = bins - np.float32(config.over_subtraction) * noise
    return np.asarray(np.maximum(left, np.float32(config.floor_ratio) * bins), np.float32)


def estimate_noise(bins: Powers, quantile: float) -> Powers:
    """(K,) mean power of the noise.

    The power of noise in a bin is exponentially distributed, so its q-quantile is −ln(1 − q) times
    its mean; the median over neighbouring bins leaves held tones out.
    """
    quiet = np.quantile(bins, quantile, axis=0) / -math.log1p(-quantile)
    return np.asarray(median_filter(quiet, SMOOTHED_BINS, mode="nearest"), np.float32)


def estimated_snr_db(bins: Powers, noise: Powers) -> float:
    """Of the whole window, dB: what is left of its power without the noise, over the noise."""
    noise_power = float(noise.sum(dtype=np.float64))
    signal = float(bins.mean(axis=0, dtype=np.float64).sum()) - noise_power
    if noise_power <= 0:
        return math.inf
    return 10 * math.log10(max(signal, 1e-9 * noise_power) / noise_power)


def compress_levels(bins: Powers, config: EnhanceConfig, mel: MelConfig) -> Powers:
    """Power with loud frames turned down.

    Args:
        bins: (T, K) power.
        config: threshold, ratio and times.
        mel: geometry of the frames.

    Returns:
        (T, K); every frame changed by one gain.
    """
    over_db = np.maximum(frame_levels_db(bins, mel) - config.threshold_db, 0)
    wanted_db = -over_db * (1 - 1 / config.ratio)
    hop_s = mel.hop_length / mel.sample_rate
    attack, release = (math.exp(-hop_s / t) for t in (config.attack_s, config.release_s))
    gains_db = np.empty_like(wanted_db)
    gain_db = wanted_db[0]
    for t, target_db in enumerate(wanted_db):
        keep = attack if target_db < gain_db else release
        gain_db = keep * gain_db + (1 - keep) * target_db
        gains_db[t] = gain_db
    return np.asarray(bins * np.power(10.0, gains_db / 10)[:, None], np.float32)


def frame_levels_db(bins: Powers, mel: MelConfig) -> npt.NDArray[np.float64]:
    """(T,) level of each frame, dB; a sine of full scale is at 0 dB."""
    window_energy = 3 / 8 * mel.frame_length  # of a Hann window
    mean_square = 2 * bins.sum(axis=1, dtype=np.float64) / (mel.n_fft * window_energy)
    levels_db = 10 * np.log10(np.maximum(mean_square, 1e-12)) - FULL_SCALE_SINE_RMS_DB
    return np.asarray(levels_db)
