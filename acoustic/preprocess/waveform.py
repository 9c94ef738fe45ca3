"""Decoded samples, and their resampling."""

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
    """Mono samples with what was counted while decoding.

    Attributes:
        samples: (n,) float32, nominally in [-1, 1].
        sample_rate: Hz.
        clipping_ratio: share of samples at full scale over all channels, in [0, 1].
    """

    samples: npt.NDArray[np.float32]
    sample_rate: int
    clipping_ratio: float


def resample(waveform: Waveform, sample_rate: int, limits: DecodeLimits) -> npt.NDArray[np.float32]:
    """The waveform's samples at another rate, by soxr in its high-quality setting.

    Args:
        waveform: mono samples.
        sample_rate: Hz wanted.
        limits: bound on the output's length.

    Returns:
        (n · sample_rate / waveform.sample_rate,) float32.

    Raises:
        AudioTooLongError: the output would be longer than the limit.
    """
    if waveform.sample_rate == sample_rate:
        return waveform.samples
    n_out = math.ceil(waveform.samples.size * sample_rate / waveform.sample_rate)
    if n_out > limits.max_resampled_samples:
        raise AudioTooLongError(
            f"the audio is {n_out} samples after resampling, limit is "
            f"{limits.max_resampled_samples}"
        )
    out = soxr.resample(waveform.samples, waveform.sample_rate, sample_rate, quality="HQ")
    return np.asarray(out, np.float32)
