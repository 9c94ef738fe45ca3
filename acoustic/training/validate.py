"""Logits of a model on whole clips, heard through evenly spread windows.

Shapes: S windows of one clip, M mel bands, T frames, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from acoustic.training.dataset import Clip

Logits = npt.NDArray[np.float32]


def cut_windows(
    log_mel: npt.NDArray[np.uint8], n_frames: int, n_windows: int
) -> npt.NDArray[np.uint8]:
    """Windows spread as the service spreads them, each renormalised to its own maximum.

    Args:
        log_mel: (M, T_clip) uint8 with T_clip ≥ n_frames.
        n_frames: T.
        n_windows: S.

    Returns:
        (S, M, T) uint8.
    """
    slack = log_mel.shape[1] - n_frames
    starts = [round((i + 0.5) / n_windows * slack) for i in range(n_windows)]
    windows = np.stack([log_mel[:, start : start + n_frames] for start in starts])
    return np.asarray(windows + (255 - windows.max(axis=(1, 2), keepdims=True)))


def clip_logits(
    forward: Callable[[npt.NDArray[np.uint8]], Logits],
    clips: Iterable[Clip],
    n_frames: int,
    n_windows: int,
) -> list[Logits]:
    """(S, C) logits of every clip; `forward` maps (S, M, T) uint8 to them."""
    return [forward(cut_windows(clip.log_mel, n_frames, n_windows)) for clip in clips]
