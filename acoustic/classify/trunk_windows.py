"""The inputs of two trunks from windows that hold both of their spectrograms.

Shapes: N windows, M = 64 + 96 rows of bands, T frames.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from acoustic.geometry import MUSICNN_MELS, YAMNET_MELS, MelConfig

YAMNET = MelConfig(
    sample_rate=16_000, n_fft=512, win_length=400, hop_length=160, n_mels=YAMNET_MELS,
    f_min=125.0, f_max=7_500.0, n_frames=480, bands="htk",
)  # fmt: skip
"""The front end of YAMNet, and 4.8 s: three windows stay under Ray's 100 KiB inline limit."""

BOTH = MelConfig(
    sample_rate=16_000, n_fft=512, win_length=400, hop_length=160, f_min=0.0, f_max=8_000.0,
    n_mels=YAMNET_MELS + MUSICNN_MELS, n_frames=288, bands="yamnet_musicnn",
)  # fmt: skip
"""YAMNet's frames with the bands of both trunks, and 2.9 s."""

PEAK = 3.7
"""Natural logarithm of the loudest magnitude of a window: the median over music."""

OFFSET = 0.001
"""YAMNet's input is ln(magnitude + 0.001)."""


class YamnetInput(nn.Module):
    """(N, 1, M, T) ln(√power + offset) of BOTH windows → (N, 1, 64, T) input of YAMNet, float32."""

    def forward(self, x: Tensor) -> Tensor:
        """The first rows, with YAMNet's level."""
        level = x[:, :, :YAMNET_MELS].float()
        level = level - level.amax(dim=(2, 3), keepdim=True) + PEAK
        return torch.log(torch.exp(level) + OFFSET)
