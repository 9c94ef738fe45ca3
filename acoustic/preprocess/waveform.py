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
"""Lossy codecs keep the phase between channels below this frequency, and often not above it."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Waveform:
    """Mono samples, with the share of clipped ones counted while decoding.

    Attributes:
        samples: (n,) float32, nominally in [-1, 1].
        sample_rate: sample rate of `samples`, Hz.
        clipping_ratio: share of samples at full scale over all channels, in [0, 1].
        channels_power: mean square of all channels of the file, before they are mixed down.
    """

    samples: npt.NDArray[np.float32]
    sample_rate: int
    clipping_ratio: float
    channels_power: float

    @property
    def power(self) -> float:
        """Mean square of the samples."""
        return float(np.dot(self.samples, self.samples)) / max(1, self.samples.size)

    @property
    def cancellation(self) -> float:
        """Share of the channels' power that is missing in their average, in [0, 1].

        0 where all channels are the same, 1 − 1 / C where C channels have nothing in common, near
        1 where channels of opposite phase cancel.
        """
        return lost_share(self.power, self.channels_power)


def lost_share(power: float, channels_power: float) -> float:
    """Share of the channels' mean power that an average of the channels lacks, in [0, 1]."""
    # below −110 dB full scale a loss cannot be told from rounding
    if channels_power <= 1e-11:
        return 0.0
    return min(1.0, max(0.0, 1.0 - power / channels_power))


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


class ChannelPowers:
    """Powers of each channel and of their average, also in the band below LOW_BAND_HZ.

    Attributes:
        full: sums of squares in the full band.
        low: sums of squares below LOW_BAND_HZ, over means of neighbouring samples.
    """

    def __init__(self) -> None:
        self.full, self.low = _Sums(), _Sums()

    def add(self, block: npt.NDArray[np.float32], sample_rate: int) -> None:
        """Add a block (frames, channels) at `sample_rate`, Hz."""
        self.full.add(block)
        n, channels = max(1, round(sample_rate / LOW_BAND_HZ)), block.shape[1]
        count = len(block) // n
        means = block[: count * n].reshape(count, n, channels).mean(axis=1, dtype=np.float32)
        self.low.add(means)


class _Sums:
    def __init__(self) -> None:
        self.channels, self.mono, self.n = np.zeros(1), 0.0, 0

    def add(self, block: npt.NDArray[np.float32]) -> None:
        squares = np.einsum("ij,ij->j", block, block).astype(np.float64)
        # recordings with fewer channels than others in the same file repeat their last one
        channels = max(squares.size, self.channels.size)
        self.channels = _widened(self.channels, channels) + _widened(squares, channels)
        mono = mix_down(block)
        self.mono += float(np.dot(mono, mono))
        self.n += len(block)

    @property
    def power(self) -> float:
        """Mean square over all channels."""
        return float(self.channels.mean()) / max(1, self.n)

    @property
    def lost(self) -> float:
        """Share of that power which the average of the channels lacks."""
        return lost_share(self.mono / max(1, self.n), self.power)


def _widened(values: npt.NDArray[np.float64], n: int) -> npt.NDArray[np.float64]:
    return np.pad(values, (0, n - values.size), "edge")


class Downmix:
    """Mixes blocks of a file down to mono, and measures the power of all channels.

    Args:
        sample_rate: sample rate of the file, Hz.
        channel: number of the channel that is taken alone, the last one where the file has fewer;
            None to average over all.
        powers: where the powers of each channel are added up; None where nobody needs them.
    """

    def __init__(self, sample_rate: int, channel: int | None, powers: ChannelPowers | None) -> None:
        self._sample_rate, self._channel, self._powers = sample_rate, channel, powers
        self._squares, self._n = 0.0, 0

    def __call__(self, block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Mono samples (frames,) of a block (frames, channels)."""
        flat = block.reshape(-1)
        self._squares += float(np.dot(flat, flat))
        self._n += flat.size
        if self._powers is not None:
            self._powers.add(block, self._sample_rate)
        if self._channel is None:
            return mix_down(block)
        return np.ascontiguousarray(block[:, min(self._channel, block.shape[1] - 1)])

    @property
    def channels_power(self) -> float:
        """Mean square of all channels over all blocks so far."""
        return self._squares / max(1, self._n)


def mix_down(block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Average (frames, channels) over the channels to mono, (frames,)."""
    channels = block.shape[1]
    if channels == 1:
        return block[:, 0]
    # A matrix product is far cheaper than `mean` over a short last axis.
    return block @ np.full(channels, 1 / channels, np.float32)
