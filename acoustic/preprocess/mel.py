"""Log-mel spectrogram of one window, equal to librosa's within 1e-3 dB.

Convention: Slaney mel scale with area-normalised triangles, periodic Hann window, power
spectrum, no centring (every frame holds real audio), dB relative to the window's own maximum
with a floor `top_db` below it. librosa is the reference in the tests and is never imported
here: its first call costs seconds of CPU and 200 MB.

Shapes: M mel bands, T frames, K = n_fft / 2 + 1 frequency bins.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import scipy.fft

from acoustic.geometry import MelConfig

BLOCK_FRAMES = 64
"""Frames per FFT call: 64 × 2048 float32 fit in the second-level cache."""

MIN_POWER = 1e-10
"""librosa's `amin`: lower powers are raised to it, so that silence has a finite level."""


class MelSpectrogram:
    """Computes log-mel spectrograms, with window and filterbank prepared once.

    Args:
        config: geometry of the spectrograms.

    >>> mel = MelSpectrogram(MelConfig(n_frames=4))
    >>> mel(np.zeros(mel.config.window_samples, np.float32)).shape
    (128, 4)
    """

    def __init__(self, config: MelConfig) -> None:
        self.config = config
        # Periodic Hann as in librosa: the period is n_fft, not n_fft - 1 as np.hanning has it.
        n = np.arange(config.n_fft)
        self._window = (0.5 - 0.5 * np.cos(2 * np.pi * n / config.n_fft)).astype(np.float32)
        self._filters = mel_filterbank(config)

    def __call__(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Log-mel spectrogram of a waveform, dB relative to the spectrogram's maximum.

        Args:
            waveform: (n,) float32 mono at the config's sample rate, n ≥ n_fft.

        Returns:
            (M, T) float32 in [-top_db, 0], T = 1 + (n - n_fft) // hop_length.

        Raises:
            ValueError: fewer samples than one frame.
        """
        return power_to_db(self.power(waveform), self.config.top_db)

    def power(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Mel power spectrogram, (M, T) float32, before the logarithm.

        Computed in blocks of frames: the bins of a whole window would leave the cache.

        Args:
            waveform: (n,) float32 mono at the config's sample rate, n ≥ n_fft.

        Raises:
            ValueError: fewer samples than one frame.
        """
        frames = self._frames(waveform)
        mel = np.empty((self.config.n_mels, len(frames)), np.float32)
        for i, block in enumerate(_blocks(frames)):
            mel[:, i * BLOCK_FRAMES : (i + 1) * BLOCK_FRAMES] = self.to_mel(self._bins(block))
        return mel

    def bins(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Power of the frequency bins, (T, K) float32; `to_mel` maps them to the mel bands.

        Raises:
            ValueError: fewer samples than one frame.
        """
        return np.concatenate([self._bins(each) for each in _blocks(self._frames(waveform))])

    def to_mel(self, bins: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(M, T) mel power of (T, K) bin power."""
        return np.asarray(self._filters @ bins.T, np.float32)

    def _frames(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(T, n_fft) view of the waveform, a frame per hop; nothing is copied."""
        config = self.config
        if waveform.size < config.n_fft:
            raise ValueError(f"{waveform.size} samples are less than one frame of {config.n_fft}")
        # (T, n_fft), a view: overlapping frames are not copied until a block is windowed.
        frames = np.lib.stride_tricks.sliding_window_view(waveform, config.n_fft)
        return frames[:: config.hop_length]

    def _bins(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        # `frames * window` is a new array, so the FFT may overwrite it; (block, K).
        spectrum = scipy.fft.rfft(frames * self._window, axis=1, overwrite_x=True)
        return np.asarray(spectrum.real**2 + spectrum.imag**2)


def _blocks(frames: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
    for start in range(0, len(frames), BLOCK_FRAMES):
        yield frames[start : start + BLOCK_FRAMES]


def power_to_db(power: npt.NDArray[np.float32], top_db: float) -> npt.NDArray[np.float32]:
    """Decibels relative to the array's maximum, floored at -top_db.

    Args:
        power: (M, T) float32, non-negative.
        top_db: depth of the scale, dB.

    Returns:
        (M, T) float32 in [-top_db, 0].

    Source: librosa.power_to_db(ref=np.max, amin=1e-10).
    """
    reference = max(float(power.max()), MIN_POWER)
    level_db = 10.0 * np.log10(np.maximum(power, MIN_POWER) / np.float32(reference))
    return np.asarray(np.maximum(level_db, -top_db), np.float32)


def mel_filterbank(config: MelConfig) -> npt.NDArray[np.float32]:
    """Triangular filters, area-normalised, on Slaney's mel scale.

    Returns:
        (M, K) float32.

    Source: Slaney, Auditory Toolbox (1998): linear below 1 kHz, 27 log steps per factor 6.4.
    """
    edges_hz = mel_band_edges_hz(config)
    bins_hz = np.fft.rfftfreq(config.n_fft, 1 / config.sample_rate)
    # (M + 2, K): height of each edge above each bin, Hz. Band m rises from edge m to m + 1 and
    # falls to edge m + 2; a factor of 2 / (its base) makes the area of each triangle 1.
    ramps = edges_hz[:, None] - bins_hz[None, :]
    widths = np.diff(edges_hz)[:, None]
    rising = -ramps[:-2] / widths[:-1]
    falling = ramps[2:] / widths[1:]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    area = 2.0 / (edges_hz[2:] - edges_hz[:-2])
    return np.ascontiguousarray(triangles * area[:, None], np.float32)


def mel_band_edges_hz(config: MelConfig) -> npt.NDArray[np.float64]:
    """Edges of the M overlapping bands, (M + 2,) Hz; band m peaks at edge m + 1."""
    low, high = _hz_to_mel(config.f_min), _hz_to_mel(config.f_max)
    return _mel_to_hz(np.linspace(low, high, config.n_mels + 2))


# Slaney's scale: linear up to 1 kHz = 15 mel, then 27 mel per factor of 6.4.
_LINEAR_HZ_PER_MEL = 200.0 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _LINEAR_HZ_PER_MEL
    return float(_BREAK_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP)


def _mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    linear = mel * _LINEAR_HZ_PER_MEL
    log = _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, linear, log)


def tile_frames(log_mel: npt.NDArray[np.float32], n_frames: int) -> npt.NDArray[np.float32]:
    """Repeat a short spectrogram along time until it fills the window (the guide's section 2.3).

    Repeating frames, not samples, makes no click at the seam.
    """
    n_missing = n_frames - log_mel.shape[1]
    return log_mel if n_missing <= 0 else np.pad(log_mel, ((0, 0), (0, n_missing)), mode="wrap")
