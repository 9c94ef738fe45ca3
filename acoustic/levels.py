"""Conversion of log-mel levels from dB relative to the maximum to stored uint8.

This is the only place that converts: 0 is `top_db` below the maximum, 255 is the maximum.
Shapes: S windows, M mel bands, T frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

MAX_LEVEL = 255

STORED_TOP_DB = 80.0
"""Depth of the scale of stored clips (mel packs and data sets read from audio), dB."""


def quantise(log_mel_db: npt.NDArray[np.float32], top_db: float) -> npt.NDArray[np.uint8]:
    """Levels of dB in [-top_db, 0], in steps of top_db / 255, the precision of the training data.

    >>> quantise(np.array([-80.0, -40.0, 0.0], np.float32), 80.0)
    array([  0, 128, 255], dtype=uint8)
    """
    return np.round((log_mel_db + top_db) * (MAX_LEVEL / top_db)).astype(np.uint8)


def dequantise(levels: Any, top_db: float) -> Any:
    """Decibels in [-top_db, 0] of levels.

    Args:
        levels: a floating-point array or tensor with values from 0 to 255; the result has its
            type, shape and dtype.
        top_db: depth of the dB scale.
    """
    return levels * (top_db / MAX_LEVEL) - top_db


def db_per_level(top_db: float) -> float:
    """Height of one step, dB."""
    return top_db / MAX_LEVEL


def renormalise(windows: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Levels relative to each window's own maximum, as the serving front end has them.

    Args:
        windows: (S, M, T) uint8 relative to another maximum.
    """
    return np.asarray(windows + (MAX_LEVEL - windows.max(axis=(-2, -1), keepdims=True)))
