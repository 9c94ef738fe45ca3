"""Decoded mono samples: the value, resampling and mixing down."""

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
    """

    samples: npt.NDArray[np.float32]
    sample_rate: int
    clipping_ratio: float


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


def mix_down(block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Average (frames, channels) over the channels to mono, (frames,)."""
    channels = block.shape[1]
    if channels == 1:
        return block[:, 0]
    # A matrix product is far cheaper than `mean` over a short last axis.
    return block @ np.full(channels, 1 / channels, np.float32)
