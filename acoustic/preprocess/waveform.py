"""Decoded mono samples: the value, resampling, mixing down, channels that cancel each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr

from acoustic.errors import AudioTooLongError
from acoustic.preprocess.guard import DecodeLimits

LOW_BAND_HZ = 1_000.0
"""Lossy codecs keep the phase between channels below this frequency, and often not above it: a
file of opposite phase has only the low band cancelled after them."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Waveform:
    """Mono samples, with the share of clipped ones counted while decoding.

    Attributes:
        samples: (n,) float32, nominally in [-1, 1].
        sample_rate: sample rate of `samples`, Hz.
        clipping_ratio: share of samples at full scale over all channels, in [0, 1].
        channel_powers: (channels,) float64, mean square of each channel of the file.
        cancellation: share of the channels' mean power that is missing in their average, in
            [0, 1]; the larger one of the full band and of the band below LOW_BAND_HZ. 0 where all
            channels are the same, 1 − 1 / C where C channels have nothing in common, and near 1
            only where channels of opposite phase cancel.
    """

    samples: npt.NDArray[np.float32]
    sample_rate: int
    clipping_ratio: float
    channel_powers: npt.NDArray[np.float64]
    cancellation: float = 0.0


def resample(waveform: Waveform, sample_rate: int, limits: DecodeLimits) -> npt.NDArray[np.float32]:
    """Resample a waveform with soxr in its high-quality setting.

    Args:
        waveform: mono samples to resample.
        sample_rate: sample rate of the result, Hz.
        limits: bounds on decoding; `max_resampled_samples` limits the length of the result.

    Returns:
        (n · sample_rate / waveform.sample_rate,) float32.

    Raises:
        AudioTooLongError: the result would be longer than the limit.
    """
    if waveform.sample_rate == sample_rate:
        return waveform.samples
    n_out = math.ceil(waveform.samples.size * sample_rate / waveform.sample_rate)
    if n_out > limits.max_resampled_samples:
        raise AudioTooLongError(
            f"the audio is {n_out} samples after resampling, limit is "
            f"{limits.max_resampled_samples} samples; shorten the file"
        )
    out = soxr.resample(waveform.samples, waveform.sample_rate, sample_rate, quality="HQ")
    return np.asarray(out, np.float32)


class Downmix:
    """Mixes blocks of a file down to mono, and measures how much of its channels that loses.

    Args:
        channels: number of channels, C.
        sample_rate: sample rate, Hz.
        channel: number of the channel that is taken alone; None to average over all.
    """

    def __init__(self, channels: int, sample_rate: int, channel: int | None) -> None:
        self._channel = None if channel is None else min(channel, channels - 1)
        self._full, self._low = _Power(channels), _Power(channels)
        # means of n samples are a low-pass filter; as a product: (n · C) → C
        self._n_low = max(1, round(sample_rate / LOW_BAND_HZ))
        one_mean = np.eye(channels) / self._n_low
        self._to_low = np.tile(one_mean, (self._n_low, 1)).astype(np.float32)

    def __call__(self, block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Mono samples (frames,) of a block (frames, C)."""
        mono = mix_down(block)
        self._full.add(block, mono)
        channels = block.shape[1]
        if channels == 1:
            return mono
        n = len(block) // self._n_low
        low = block[: n * self._n_low].reshape(n, self._n_low * channels) @ self._to_low
        self._low.add(low, mix_down(low))
        if self._channel is None:
            return mono
        return np.ascontiguousarray(block[:, self._channel])

    @property
    def channel_powers(self) -> npt.NDArray[np.float64]:
        """Mean square of each channel over all blocks so far: (C,) float64."""
        return self._full.channels / max(1, self._full.n)

    @property
    def cancellation(self) -> float:
        """Share of power lost in the average so far; see `Waveform.cancellation`."""
        return max(self._full.lost, self._low.lost)


class _Power:
    """Sums of squares of channels and of their average."""

    def __init__(self, channels: int) -> None:
        self.channels = np.zeros(channels)
        self.mono, self.n = 0.0, 0

    def add(self, block: npt.NDArray[np.float32], mono: npt.NDArray[np.float32]) -> None:
        self.channels += np.einsum("ij,ij->j", block, block)
        self.mono += float(np.dot(mono, mono))
        self.n += len(block)

    @property
    def lost(self) -> float:
        mean = float(self.channels.mean())
        # below −110 dB full scale there is nothing whose loss could be told from rounding
        if mean <= self.n * 1e-11:
            return 0.0
        return min(1.0, max(0.0, 1.0 - self.mono / mean))


def mix_down(block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Average (frames, channels) over the channels to mono, (frames,)."""
    channels = block.shape[1]
    if channels == 1:
        return block[:, 0]
    # A matrix product is far cheaper than `mean` over a short last axis.
    return block @ np.full(channels, 1 / channels, np.float32)
