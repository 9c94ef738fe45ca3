"""Cut windows from a stored spectrogram, spread over the track as in serving.

Shapes: S windows of one clip, M mel bands, T frames.
"""

from __future__ import annotations

import numpy as np

from acoustic.levels import renormalise
from acoustic.types import WindowValues


def cut_windows(log_mel: WindowValues, n_frames: int, n_windows: int) -> WindowValues:
    """Cut evenly spread windows; relative levels are renormalised to each maximum, as in serving.

    Args:
        log_mel: (M, T_clip) with T_clip ≥ n_frames.
        n_frames: T, frames of one window.
        n_windows: S, number of windows, at least 1.

    Returns:
        (S, M, T) of the same dtype.
    """
    slack = log_mel.shape[1] - n_frames
    # Starts at the centres of S equal parts of the slack, like `plan_segments`. Unlike there, S is
    # not reduced for a short clip, so windows may overlap by more than two thirds.
    starts = [round((i + 0.5) / n_windows * slack) for i in range(n_windows)]
    windows = np.stack([log_mel[:, start : start + n_frames] for start in starts])
    return renormalise(windows) if windows.dtype == np.uint8 else windows
