"""Log-mel spectrogram of one window, equal to librosa's within 1e-3 dB, and those of AST and MAEST.

Convention: periodic Hann window, no centring (every frame holds real audio), dB relative to the
window's own maximum with a floor `top_db` below it. Published models have other conventions, which
`MelConfig.algorithm` and `MelConfig.bands` name. librosa and transformers are the references in the
tests and are never imported here: the first call of librosa costs seconds of CPU and 200 MB.

Shapes: M mel bands, T frames, K = n_fft / 2 + 1 frequency bins.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import scipy.fft

from acoustic.geometry import MelConfig
from acoustic.levels import dequantise, quantise
from acoustic.mel_bands import mel_filterbank
from acoustic.types import WindowValues

BLOCK_BYTES = 512 << 10
"""Samples per FFT call, over all frames of it: they fit in the second-level cache."""

BANDS_PER_BLOCK = 16  # bands whose filters are multiplied with the bins at a time

MIN_POWER = 1e-10
"""librosa's `amin`: lower powers are raised to it, so that silence has a finite level."""


SECOND_GAIN = np.float32(24)
"""Factor of the second spectrogram of a window: both then have about the same maximum, and the
floor below it takes as much of either."""

KALDI_FLOOR = np.float32(np.finfo(np.float32).eps)
"""Lower powers are raised to it before the logarithm of Kaldi's filter bank."""

DB_OF_E = np.float32(10 / np.log(10))
"""Decibels of a power that is e times as large."""

PRE_EMPHASIS = 0.97
ABSOLUTE_GAIN = np.float32(10_000)
"""Factor of the power in MAEST's log10(1 + gain · power)."""


class MelSpectrogram:
    """Computes mel spectrograms, with window and filterbank prepared once.

    Args:
        config: geometry of the spectrograms.

    >>> mel = MelSpectrogram(MelConfig(n_frames=4))
    >>> mel(np.zeros(mel.config.window_samples, np.float32)).shape
    (128, 4)
    """

    def __init__(self, config: MelConfig) -> None:
        self.config = config
        self._is_kaldi = config.algorithm == "kaldi_fbank"
        self._is_centred = config.algorithm == "log_mel_absolute"
        # The period of a symmetric window is one sample shorter: its last value is 0 again. Kaldi's
        # values reach down to a fixed floor far below a loud tone, where float32 is too coarse.
        dtype: type[np.floating] = np.float64 if config.is_absolute else np.float32
        length = config.frame_length
        period = length - 1 if self._is_kaldi else length
        self._window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / period)).astype(dtype)
        # by the band that each block of filters begins with; and whether it takes the magnitude
        self._filters: list[tuple[int, int, npt.NDArray[np.float32], bool]] = []
        row = 0
        for block in config.blocks:
            gain = SECOND_GAIN if row else np.float32(1)
            for first, low, filters in _blocks(mel_filterbank(block) * gain):
                self._filters.append((row + first, low, filters, block.bands == "htk"))
            row += block.n_mels

    def __call__(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The model's values of a waveform: `values` of its power.

        Args:
            waveform: (n,) float32 mono at the config's sample rate, n ≥ one frame.

        Returns:
            (M, T) float32; T = 1 + (n - frame_length) // hop_length, or 1 + n // hop_length of
            centred frames.

        Raises:
            ValueError: fewer samples than one frame.
        """
        return self.values(self.power(waveform))

    def values(self, power: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The model's values of a mel power spectrogram (M, T), float32.

        Decibels relative to the maximum in [-top_db, 0], or absolute levels; see `MelConfig`.
        """
        if self.config.algorithm == "kaldi_fbank":
            return np.asarray(np.log(np.maximum(power, KALDI_FLOOR)), np.float32)
        if self.config.algorithm == "log_mel_absolute":
            return np.asarray(np.log10(1 + ABSOLUTE_GAIN * power), np.float32)
        return power_to_db(power, self.config.top_db)

    def power(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Mel power spectrogram, (M, T) float32, before the logarithm.

        Computed in blocks of frames: the bins of a whole window would leave the cache.

        Args:
            waveform: (n,) float32 mono at the config's sample rate, n ≥ one frame.

        Raises:
            ValueError: fewer samples than one frame.
        """
        mel = np.empty((self.config.n_mels, self._n_frames(waveform.size)), np.float32)
        done = 0
        for block in self._windowed(waveform):
            mel[:, done : done + len(block)] = self.to_mel(self._bins(block))
            done += len(block)
        return mel

    def bins(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Power of the frequency bins, (T, K) float32; `to_mel` maps them to the mel bands.

        Raises:
            ValueError: fewer samples than one frame.
        """
        return np.concatenate([self._bins(block) for block in self._windowed(waveform)])

    def to_mel(self, bins: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(M, T) mel power of (T, K) bin power; of HTK bands, the square of the magnitude."""
        power = bins.T
        magnitude = np.sqrt(power) if any(is_htk for *_, is_htk in self._filters) else power
        mel = np.empty((self.config.n_mels, len(bins)), np.float32)
        for first, low, block, is_htk in self._filters:
            n_bands, n_bins = block.shape
            rows = mel[first : first + n_bands]
            np.matmul(block, (magnitude if is_htk else power)[low : low + n_bins], out=rows)
            if is_htk:
                np.square(rows, out=rows)
        return mel

    def _n_frames(self, n_samples: int) -> int:
        """T of a waveform."""
        length, hop = self.config.frame_length, self.config.hop_length
        if n_samples < length:
            raise ValueError(f"{n_samples} samples are less than one frame of {length}")
        return 1 + (n_samples if self._is_centred else n_samples - length) // hop

    def _windowed(self, waveform: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.floating]]:
        """Windowed frames, in blocks (n, frame_length); each is overwritten by the next."""
        length, hop = self.config.frame_length, self.config.hop_length
        n_frames = self._n_frames(waveform.size)
        if self._is_centred:
            waveform = np.pad(waveform, length // 2)
        n = max(1, BLOCK_BYTES // (self.config.n_fft * self._window.itemsize))
        buffer = np.empty((min(n, n_frames), length), self._window.dtype)
        for start in range(0, n_frames, n):
            n_block = min(n, n_frames - start)
            samples: npt.NDArray[np.floating]
            samples = waveform[start * hop : (start + n_block - 1) * hop + length]
            windowed = buffer[:n_block]
            if self._is_kaldi:
                samples, means = _pre_emphasised(samples, length, hop)
                np.subtract(_frames(samples, length, hop), means[:, None], out=windowed)
                windowed *= self._window
            else:
                np.multiply(_frames(samples, length, hop), self._window, out=windowed)
            yield windowed

    def _bins(self, windowed: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """(n, K) power of windowed frames."""
        spectrum = scipy.fft.rfft(windowed, self.config.n_fft, axis=1, overwrite_x=True)
        if self.config.is_absolute:
            spectrum = spectrum.astype(np.complex64)
        return np.asarray(spectrum.real**2 + spectrum.imag**2)


def _blocks(
    filters: npt.NDArray[np.float32],
) -> list[tuple[int, int, npt.NDArray[np.float32]]]:
    """The filters in blocks of bands: first band, first bin, (bands, bins) without the zeros.

    A product of all of them would be with zeros for the most part. Short blocks of dense numbers
    are faster than a sparse matrix.
    """
    blocks = []
    for first in range(0, len(filters), BANDS_PER_BLOCK):
        block = filters[first : first + BANDS_PER_BLOCK]
        used = np.flatnonzero(block.any(axis=0))
        low, high = (used[0], used[-1] + 1) if used.size else (0, 1)
        blocks.append((first, int(low), np.ascontiguousarray(block[:, low:high])))
    return blocks


def _frames(samples: npt.NDArray[np.floating], length: int, hop: int) -> npt.NDArray[np.floating]:
    """(n, length) view: overlapping frames are not copied until they are windowed."""
    return np.lib.stride_tricks.sliding_window_view(samples, length)[::hop]


def _pre_emphasised(
    waveform: npt.NDArray[np.float32], length: int, hop: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """x[n] - 0.97 x[n - 1], and what is left of each frame's mean in it.

    Kaldi takes a frame's mean away first. The difference of constants is a constant, except at a
    frame's first sample, where the symmetric window is 0.

    Returns:
        (n,) and (T,) float64.
    """
    sums = np.concatenate([[0.0], np.cumsum(waveform, dtype=np.float64)])
    means = (sums[length::hop] - sums[:-length:hop]) / length
    emphasised = waveform.astype(np.float64)
    emphasised[1:] -= PRE_EMPHASIS * waveform[:-1].astype(np.float64)
    return emphasised, (1 - PRE_EMPHASIS) * means


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
    # numpy has a vector kernel of the natural logarithm, four times as fast as the decimal one
    level_db = DB_OF_E * np.log(np.maximum(power, MIN_POWER) / np.float32(reference))
    return np.asarray(np.maximum(level_db, -top_db), np.float32)


def tile_frames(log_mel: npt.NDArray[np.float32], n_frames: int) -> npt.NDArray[np.float32]:
    """Repeat a short spectrogram along time until it fills the window (the guide's section 2.3).

    Repeating frames, not samples, makes no click at the seam.
    """
    n_missing = n_frames - log_mel.shape[1]
    return log_mel if n_missing <= 0 else np.pad(log_mel, ((0, 0), (0, n_missing)), mode="wrap")


def model_values(spectrogram: MelSpectrogram, power: npt.NDArray[np.float32]) -> WindowValues:
    """The model's values of a window, or of a longer recording, from its mel power.

    Args:
        spectrogram: front end.
        power: (M, T_sound) mel power of as much sound as there is.

    Returns:
        (M, T or more) uint8 or float16; see `WindowValues`.

    A short track is repeated where levels are relative to the maximum (uint8), and followed by
    zeros where they are absolute (float16), as the published models do.
    """
    mel = spectrogram.config
    if not mel.is_absolute:
        return quantise(spectrogram.values(tile_frames(power, mel.n_frames)), mel.top_db)
    n_missing = max(0, mel.n_frames - power.shape[1])
    values = spectrogram.values(power)
    return np.pad(values, ((0, 0), (0, n_missing))).astype(np.float16)


def pre_emphasis_gain(
    frequencies_hz: npt.NDArray[np.float64], sample_rate: int
) -> npt.NDArray[np.float64]:
    """Factor of the power that the pre-emphasis of Kaldi's filter bank makes at each frequency."""
    angle = 2 * np.pi * frequencies_hz / sample_rate
    return np.asarray(1 + PRE_EMPHASIS**2 - 2 * PRE_EMPHASIS * np.cos(angle))


def relative_db(windows: WindowValues, mel: MelConfig) -> npt.NDArray[np.float32]:
    """Decibels in [-top_db, 0] relative to each window's maximum, of windows (S, M, T).

    The zeros behind a short track of absolute levels are replaced by its own sound, as where levels
    are relative.
    """
    if mel.algorithm == "log_mel":
        return np.asarray(dequantise(windows.astype(np.float32), mel.top_db), np.float32)
    return np.stack([_level_db(each.astype(np.float32), mel) for each in windows])


def _level_db(values: npt.NDArray[np.float32], mel: MelConfig) -> npt.NDArray[np.float32]:
    is_kaldi = mel.algorithm == "kaldi_fbank"
    power = np.exp(values) if is_kaldi else (10**values - 1) / ABSOLUTE_GAIN
    sound = values.any(axis=0)
    if sound.any():
        power = power[:, sound]
    return power_to_db(tile_frames(power, mel.n_frames), mel.top_db)
