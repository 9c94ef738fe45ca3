"""Per-channel energy normalisation, the other compression of a mel spectrogram besides the dB.

Each band is divided by its own recent level, so that steady noise and the colour of a channel fade
and onsets stand out; a root then compresses what is left. Levels are relative to the window's
maximum, as everywhere here, so that a gain changes nothing. librosa.pcen is the reference.

Source: Wang et al., Trainable Frontend for Robust and Far-Field Keyword Spotting (2017).
Shapes: N windows, M mel bands, T frames.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMOOTHING = 0.1
"""Share of a frame in the running level: at 41.5 ms a frame, a time constant of 0.4 s."""

GAIN = 0.98
BIAS = 2.0
POWER = 0.5
QUIET = 1e-6
"""Level that is not lifted any more: 60 dB below the window's maximum."""


def pcen(windows_db: Tensor) -> Tensor:
    """PCEN of log-mel windows.

    Args:
        windows_db: (N, M, T) float32 dB relative to each window's maximum.

    Returns:
        (N, M, T) float32, about 0 to 5; every window from itself alone.
    """
    power = torch.pow(10.0, windows_db / 10)
    level = power[:, :, 0]
    levels = [level]
    for t in range(1, power.shape[2]):
        level = level + SMOOTHING * (power[:, :, t] - level)
        levels.append(level)
    normalised = power * torch.pow(QUIET + torch.stack(levels, dim=2), -GAIN)
    return torch.sub(torch.pow(normalised + BIAS, POWER), BIAS**POWER)
