"""Log-mel spectrogram of one window, equal to librosa's within 1e-3 dB.

Convention: Slaney mel scale with area-normalised triangles, periodic Hann window, power
spectrum, no centring (every frame holds real audio), dB relative to the window's own maximum
with a floor `top_db` below it. librosa is the reference in the tests and is never imported
here: its first call costs seconds of CPU and 200 MB.

Shapes: M mel bands, T frames, K = n_fft / 2 + 1 frequency bins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

BLOCK_FRAMES = 64
"""Frames per FFT call: 64 × 2048 float32 stay in the second-level cache."""

MIN_POWER = 1e-10
"""librosa's `amin`: power below it counts as this much, so silence has a finite level."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MelConfig:
    """Geometry of the front end. It belongs to the checkpoint that was trained with it.

    Attributes:
        sample_rate: Hz, mono.
        n_fft: samples per frame, and FFT length.
        hop_length: samples from one frame to the next.
        n_mels: mel bands, M.
        f_min: lower edge of the first band, Hz.
        f_max: upper edge of the last band, Hz, at most half the sample rate.
        top_db: depth of the dB scale below the window's maximum.
        n_frames: frames of one window, T.
    """

    sample_rate: int = 22_050
    n_fft: int = 2048
    hop_length: int = 915
    n_mels: int = 128
    f_min: float = 0.0
    f_max: float = 11_025.0
    top_db: float = 80.0
    n_frames: int = 144

    def __post_init__(self) -> None:
        positive = (self.sample_rate, self.n_fft, self.hop_length, self.n_mels, self.n_frames)
        if min(positive) < 1 or self.top_db <= 0:
            raise ValueError(f"every size of the mel geometry must be positive: {self}")
        if not 0 <= self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError(
                f"f_min {self.f_min} Hz and f_max {self.f_max} Hz must be rising and at most "
                f"{self.sample_rate / 2} Hz, half the sample rate"
            )

    @property
    def window_samples(self) -> int:
        """Samples that fill exactly `n_frames` frames."""
        return (self.n_frames - 1) * self.hop_length + self.n_fft

    @property
    def window_s(self) -> float:
        """Length of one window in seconds."""
        return self.window_samples / self.sample_rate


class MelSpectrogram:
    """Log-mel with its window and filterbank prepared once.

    Args:
        config: the geometry.

    >>> mel = MelSpectrogram(MelConfig(n_frames=4))
    >>> mel(np.zeros(mel.config.window_samples, np.float32)).shape
    (128, 4)
    """

    def __init__(self, config: MelConfig) -> None:
        self.config = config
        n = np.arange(config.n_fft)
        self._window = (0.5 - 0.5 * np.cos(2 * np.pi * n / config.n_fft)).astype(np.float32)
        self._filters = mel_filterbank(config)

    def __call__(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Log-mel of a waveform, dB relative to its maximum.

        Args:
            waveform: (n,) float32 mono at the config's sample rate, n ≥ n_fft.

        Returns:
            (M, T) float32 in [-top_db, 0], T = 1 + (n - n_fft) // hop_length.

        Raises:
            ValueError: fewer samples than one frame.
        """
        return power_to_db(self.power(waveform), self.config.top_db)

    def power(
        self,
        waveform: npt.NDArray[np.float32],
        change: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Mel power spectrogram, (M, T) float32, before the logarithm.

        Args:
            waveform: (n,) float32 mono at the config's sample rate, n ≥ n_fft.
            change: (T, K) power of the bins → what goes on to the mel bands; None changes nothing.

        Raises:
            ValueError: fewer samples than one frame.
        """
        config = self.config
        if waveform.size < config.n_fft:
            raise ValueError(f"{waveform.size} samples are less than one frame, {config.n_fft}")
        frames = np.lib.stride_tricks.sliding_window_view(waveform, config.n_fft)
        frames = frames[:: config.hop_length]
        mel = np.empty((config.n_mels, len(frames)), np.float32)
        if change is not None:  # it needs the whole window at once
            bins = np.concatenate([self._bins(block) for block in _blocks(frames)])
            return np.asarray(self._filters @ change(bins).T, np.float32)
        for i, block in enumerate(_blocks(frames)):
            mel[:, i * BLOCK_FRAMES : (i + 1) * BLOCK_FRAMES] = self._filters @ self._bins(block).T
        return mel

    def _bins(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
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
