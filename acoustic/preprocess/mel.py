"""Log-mel spectrogram of one window, equal to librosa's within 1e-3 dB.

Convention: periodic Hann window, no centring (every frame holds real audio), dB relative to the
window's own maximum with a floor `top_db` below it. Two kinds of bands: Slaney's, with
area-normalised triangles over the power, and those of AudioSet's models, with triangles of height 1
on the HTK scale over the magnitude. librosa is the reference in the tests and is never imported
here: its first call costs seconds of CPU and 200 MB.

Shapes: M mel bands, T frames, K = n_fft / 2 + 1 frequency bins.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import scipy.fft

from acoustic.geometry import MelConfig

BLOCK_SAMPLES = 64 * 2048
"""Samples per FFT call, over all frames of it: as float32 they fit in the second-level cache."""

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
        # periodic Hann as in librosa: np.hanning's period is one sample shorter
        n = np.arange(config.frame_length)
        self._window = (0.5 - 0.5 * np.cos(2 * np.pi * n / config.frame_length)).astype(np.float32)
        self._filters = mel_filterbank(config)

    def __call__(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Log-mel spectrogram of a waveform, dB relative to the spectrogram's maximum.

        Args:
            waveform: (n,) float32 mono at the config's sample rate, n ≥ one frame.

        Returns:
            (M, T) float32 in [-top_db, 0], T = 1 + (n - frame_length) // hop_length.

        Raises:
            ValueError: fewer samples than one frame.
        """
        return power_to_db(self.power(waveform), self.config.top_db)

    def power(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Mel power spectrogram, (M, T) float32, before the logarithm.

        Computed in blocks of frames: the bins of a whole window would leave the cache.

        Args:
            waveform: (n,) float32 mono at the config's sample rate, n ≥ one frame.

        Raises:
            ValueError: fewer samples than one frame.
        """
        frames = self._frames(waveform)
        mel = np.empty((self.config.n_mels, len(frames)), np.float32)
        done = 0
        for block in self._blocks(frames):
            mel[:, done : done + len(block)] = self.to_mel(self._bins(block))
            done += len(block)
        return mel

    def bins(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Power of the frequency bins, (T, K) float32; `to_mel` maps them to the mel bands.

        Raises:
            ValueError: fewer samples than one frame.
        """
        return np.concatenate([self._bins(each) for each in self._blocks(self._frames(waveform))])

    def to_mel(self, bins: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(M, T) mel power of (T, K) bin power; of HTK bands, the square of the magnitude."""
        if self.config.bands == "htk":
            return np.square(self._filters @ np.sqrt(bins.T), dtype=np.float32)
        return np.asarray(self._filters @ bins.T, np.float32)

    def _frames(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(T, frame_length) view of the waveform, a frame per hop; nothing is copied."""
        config = self.config
        length = config.frame_length
        if waveform.size < length:
            raise ValueError(f"{waveform.size} samples are less than one frame of {length}")
        # a view: overlapping frames are not copied until a block is windowed
        frames = np.lib.stride_tricks.sliding_window_view(waveform, length)
        return frames[:: config.hop_length]

    def _blocks(self, frames: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
        n = max(1, BLOCK_SAMPLES // self.config.n_fft)
        for start in range(0, len(frames), n):
            yield frames[start : start + n]

    def _bins(self, frames: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        # `frames * window` is a new array, so the FFT may overwrite it; (block, K).
        spectrum = scipy.fft.rfft(
            frames * self._window, self.config.n_fft, axis=1, overwrite_x=True
        )
        return np.asarray(spectrum.real**2 + spectrum.imag**2)


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
    """Triangular filters of the M bands over the K frequency bins.

    Returns:
        (M, K) float32.

    Source: Slaney, Auditory Toolbox (1998): linear below 1 kHz, 27 log steps per factor 6.4;
    Young et al., The HTK Book (2006): 1127 · ln(1 + f / 700).
    """
    bins_hz = np.fft.rfftfreq(config.n_fft, 1 / config.sample_rate).astype(np.float64)
    if config.bands == "htk":
        # straight sides over mel, not over Hz; the bin at 0 Hz is left out
        triangles = _triangles(_hz_to_htk(mel_band_edges_hz(config)), _hz_to_htk(bins_hz))
        triangles[:, 0] = 0
        return np.ascontiguousarray(triangles, np.float32)
    edges_hz = mel_band_edges_hz(config)
    area = 2.0 / (edges_hz[2:] - edges_hz[:-2])
    return np.ascontiguousarray(_triangles(edges_hz, bins_hz) * area[:, None], np.float32)


def _triangles(
    edges: npt.NDArray[np.float64], bins: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(M, K): band m rises from edge m to 1 at edge m + 1, and falls to edge m + 2."""
    ramps = edges[:, None] - bins[None, :]
    widths = np.diff(edges)[:, None]
    return np.maximum(0.0, np.minimum(-ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]))


def mel_band_edges_hz(config: MelConfig) -> npt.NDArray[np.float64]:
    """Edges of the M overlapping bands, (M + 2,) Hz; band m peaks at edge m + 1."""
    if config.bands == "htk":
        low_mel, high_mel = _hz_to_htk(np.array([config.f_min, config.f_max]))
        return 700 * np.expm1(np.linspace(low_mel, high_mel, config.n_mels + 2) / 1127)
    low, high = _hz_to_mel(config.f_min), _hz_to_mel(config.f_max)
    return _mel_to_hz(np.linspace(low, high, config.n_mels + 2))


# Slaney's scale: linear up to 1 kHz = 15 mel, then 27 mel per factor of 6.4.
_LINEAR_HZ_PER_MEL = 200.0 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def _hz_to_htk(hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(1127 * np.log1p(hz / 700))


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
