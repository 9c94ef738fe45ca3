"""Patch embeddings (stems): log-mel windows → patch tokens.

linear      one product per patch, as in the ViT paper: for large data sets or published weights
residual    stride-2 residual blocks down to the patch grid, for small data sets; after Xiao et
            al., Early Convolutions Help Transformers See Better (2021)
mobilenet   the maps of a pre-trained trunk; see `mobilenet`

Parameter names follow timm's `patch_embed.proj`. Every stem takes the width D and the side of a
square patch, and maps (N, 1, height, width) to (N, P, D), patches row by row.

Shapes: N windows, P patches, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acoustic.classify.mobilenet import MobileNetStem

Stem = Literal["linear", "residual", "mobilenet"]


class Patches(nn.Module):
    """Linear embedding of square patches, written as a convolution.

    Args:
        width: D.
        patch_size: side of a patch.
        strides: rows and columns between the starts of two patches; the patch size by default.
    """

    def __init__(self, width: int, patch_size: int, strides: tuple[int, int] | None = None) -> None:
        super().__init__()
        strides = strides or (patch_size, patch_size)
        self.proj = nn.Conv2d(1, width, kernel_size=patch_size, stride=strides)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, height, width) → (N, P, D), patches row by row."""
        tokens: Tensor = self.proj(x).flatten(2).transpose(1, 2)
        return tokens


class ResidualStem(nn.Module):
    """A stride-2 convolution, then residual blocks of stride 2 down to the patch grid.

    Deep on purpose: it builds in more of what a small data set cannot teach. Channels
    double from block to block and end at D.
    """

    def __init__(self, width: int, patch_size: int) -> None:
        super().__init__()
        # the first convolution halves once, the blocks do the rest: 3 blocks for patch size 16
        n_blocks = patch_size.bit_length() - 2
        channels = [max(8, width >> (n_blocks - i)) for i in range(n_blocks + 1)]
        self.stem = nn.Sequential(
            nn.Conv2d(1, channels[0], 3, stride=2, padding=1),
            nn.BatchNorm2d(channels[0]),
            nn.GELU(),
            *(ResidualBlock(n_in, n_out) for n_in, n_out in pairwise(channels)),
        )
        self.proj = nn.Conv2d(channels[-1], width, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, height, width) → (N, P, D), patches row by row."""
        # the memory layout in which most backends convolve fastest; values do not change
        x = x.to(memory_format=torch.channels_last)
        tokens: Tensor = self.proj(self.stem(x)).flatten(2).transpose(1, 2)
        return tokens


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions, the first of stride 2, plus an average-pooled shortcut.

    Source: He et al., Deep Residual Learning (2016); shortcut by average pooling as in He et al.,
    Bag of Tricks for Image Classification (2019).
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride=2, padding=1)
        self.norm1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(n_out)
        self.shortcut = nn.Conv2d(n_in, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, n_in, h, w) → (N, n_out, h / 2, w / 2)."""
        out = self.norm2(self.conv2(F.gelu(self.norm1(self.conv1(x)))))
        return F.gelu(out + self.shortcut(F.avg_pool2d(x, 2)))


STEMS: dict[Stem, Callable[[int, int], nn.Module]] = {
    "linear": Patches,
    "residual": ResidualStem,
    "mobilenet": MobileNetStem,
}
