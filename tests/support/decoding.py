"""Decodes whole files; the product decodes only the seconds that it evaluates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from acoustic.preprocess.decode import open_audio
from acoustic.preprocess.guard import DecodeLimits
from acoustic.preprocess.waveform import resample
from acoustic.types import Segment


def decode_whole(
    data: bytes, sample_rate: int, limits: DecodeLimits | None = None
) -> npt.NDArray[np.float32]:
    """(n,) mono samples of a whole file at one sample rate, Hz."""
    limits = limits or DecodeLimits()
    reader = open_audio(data, limits)
    waveform = reader.read(Segment(start_s=0.0, end_s=reader.info.duration_s or 0.0))
    return resample(waveform, sample_rate, limits)
