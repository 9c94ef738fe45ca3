"""Decoded mono samples: the value, resampling, mixing down, channels that cancel each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soxr

from acoustic.errors import AudioTooLongError
from acoustic.preprocess.guard import DecodeLimits


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


class Downmix:
    """Mixes blocks of a file down to mono, and measures the power of all channels.

    Args:
        channel: number of the channel that is taken alone, the last one where the file has fewer;
            None to average over all.
    """

    def __init__(self, channel: int | None) -> None:
        self._channel = channel
        self._squares, self._n = 0.0, 0

    def __call__(self, block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Mono samples (frames,) of a block (frames, channels)."""
        flat = block.reshape(-1)
        self._squares += float(np.dot(flat, flat))
        self._n += flat.size
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
