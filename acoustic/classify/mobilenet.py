"""MobileNet stem: a pre-trained convolutional trunk whose last feature maps are the patch tokens.

The trunk and its class scores are those of YAMNet (Google, 2019, Apache-2.0): MobileNet v1, trained
on the two million clips of AudioSet. A transformer behind a convolutional network is the hybrid
architecture of Dosovitskiy et al. (2021), section 3.1. A few hundred recordings of a few
collections cannot teach a network what sounds are.

The trunk stays as it was trained, its batch norms folded into the convolutions. It reads
ln(magnitude + 0.001) of 64 HTK mel bands (`Scaling` kind "log_magnitude"), SEGMENT_FRAMES frames at
a time: each of its cells was trained beside the padding of such a segment. In the middle of a
longer input some maps reach fifty times their usual values.

A second trunk may listen to the same windows (`musicnn`); what it says of a window stands behind
the maps of each patch.

Source: Howard et al., MobileNets (2017); Plakal and Ellis, YAMNet; Gemmeke et al., Audio Set
(2017).
Shapes: N windows, M mel bands, T frames, P patches, D width, E = 2048 numbers of the trunk per
patch, or 2298 with a second trunk, A = 521 classes of AudioSet, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acoustic.classify import rowwise
from acoustic.classify.musicnn import N_FEATURES, Musicnn
from acoustic.classify.trunk_windows import YamnetInput

PATCH_SIZE = 32
"""Bands and frames per cell of the last maps: five strides of 2."""

SEGMENT_FRAMES = 96
"""Frames of the segments that the trunk was trained on, 0.96 s."""

PAIRS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1),
    (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip
"""Output channels and stride of each pair of a depthwise and a pointwise convolution."""

EMBEDDING = 2 * PAIRS[-1][0]
"""The maps of the last two pairs, side by side."""

SECOND_FACTOR = 3.5
"""Factor of the standardised features of a second trunk: the penalty of the linear head holds them
back less than the maps, which are many and tell collections apart. Chosen by five folds over
collections."""

WINDOWS_AT_ONCE = 4
"""Most windows that eager code on a CPU convolves together: more of them save little."""

N_AUDIOSET = 521
MUSIC_CLASSES = [*range(24, 32), *range(132, 277)]
"""AudioSet's classes "Singing" to "Humming" and "Music" to "Scary music", in YAMNet's order."""


_HAS_FUSED = hasattr(torch.ops.mkldnn, "_convolution_pointwise")  # a build with oneDNN
_HAS_FUSED_BF16 = _HAS_FUSED and torch.ops.mkldnn._is_mkldnn_bf16_supported()


class Convolution(nn.Conv2d):
    """A convolution with ReLU, padded as in TensorFlow: of stride 2 on the far sides only."""

    def __init__(self, n_in: int, n_out: int, size: int, stride: int = 1, groups: int = 1) -> None:
        padding = 1 if size == 3 and stride == 1 else 0
        super().__init__(n_in, n_out, size, stride, padding, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """(N, n_in, h, w) → (N, n_out, h / stride, w / stride)."""
        if rowwise.is_eager_on_cpu(x) and torch.is_inference_mode_enabled() and _can_fuse(x.dtype):
            return self._fused(x)
        if self.stride[0] == 2:
            x = F.pad(x, (0, 1, 0, 1))
        return F.relu(super().forward(x))

    def _fused(self, x: Tensor) -> Tensor:
        """The same with fewer passes over the maps; in bfloat16 to the last digit."""
        if self.stride[0] == 2:
            n, n_in, height, width = x.shape
            padded = torch.empty(
                (n, n_in, height + 1, width + 1), dtype=x.dtype, memory_format=torch.channels_last
            )
            padded[:, :, :height, :width] = x
            padded[:, :, height] = 0
            padded[:, :, :, width] = 0
            x = padded
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups,
            "relu", [], "",
        )  # fmt: skip
        return out


class MobileNet(nn.Module):
    """The convolutions of MobileNet v1 over one channel.

    Args:
        segment_frames: frames that are convolved together, a divisor of T; None for a whole window.
    """

    def __init__(self, segment_frames: int | None = SEGMENT_FRAMES) -> None:
        super().__init__()
        self.segment_frames = segment_frames
        self.windows_at_once = 1
        layers, n_in = [Convolution(1, 32, 3, stride=2)], 32
        for n_out, stride in PAIRS:
            layers.append(Convolution(n_in, n_in, 3, stride=stride, groups=n_in))
            layers.append(Convolution(n_in, n_out, 1))
            n_in = n_out
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, M, T) → (N, E, M / 32, T / 32)."""
        n_segments = x.shape[3] // (self.segment_frames or x.shape[3])
        if n_segments == 1:
            return self._convolved(x)
        # each segment is one more item of the batch
        parts = x.reshape(*x.shape[:3], n_segments, -1)
        x = parts.permute(0, 3, 1, 2, 4).flatten(0, 1)
        if rowwise.is_eager_on_cpu(x):
            groups = torch.split(x, n_segments * self.windows_at_once)
            maps = torch.cat([self._convolved(each.contiguous()) for each in groups])
        else:
            maps = self._convolved(x)
        parts = maps.reshape(-1, n_segments, *maps.shape[1:])
        return parts.permute(0, 2, 3, 1, 4).flatten(3)

    @torch.inference_mode()
    def join_windows(self, height: int, width: int) -> None:
        """Convolve up to WINDOWS_AT_ONCE windows together from now on, if no digit changes by that.

        Together they take 60 % of the time. On some processors, though, another number of windows
        has other kernels, whose sums run in another order, and an answer must not depend on what
        else is in the batch: windows are then convolved one by one, as before this call.

        Args:
            height: mel bands of a window.
            width: frames of a window.
        """
        dtype = next(self.parameters()).dtype
        if not _can_fuse(dtype):  # the plain kernels are known to differ
            return
        x = torch.randn(
            WINDOWS_AT_ONCE, 1, height, width, generator=torch.Generator().manual_seed(0)
        )
        x = x.to(dtype)
        self.windows_at_once = 1
        alone = self(x)
        self.windows_at_once = WINDOWS_AT_ONCE
        sizes = range(2, WINDOWS_AT_ONCE + 1)
        if not all(torch.equal(self(x[:size]), alone[:size]) for size in sizes):
            self.windows_at_once = 1

    def _convolved(self, x: Tensor) -> Tensor:
        # the memory layout in which most backends convolve fastest; values do not change
        x = x.contiguous(memory_format=torch.channels_last)
        before = x
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i == len(self.layers) - 3:
                before = x
        return torch.cat([before, x], dim=1)


def _can_fuse(dtype: torch.dtype) -> bool:
    if dtype == torch.float32:  # autocast would not change its type
        return _HAS_FUSED and not torch.is_autocast_enabled("cpu")
    return _HAS_FUSED_BF16 and dtype == torch.bfloat16


class MobileNetStem(nn.Module):
    """Tokens of the trunk's last maps, with the maps themselves beside them.

    The projection is not trained by gradients: it holds the first D principal components of the
    standardised maps of training crops.

    Args:
        width: D, numbers per token.
        patch_size: must be PATCH_SIZE.
        segment_frames: of the trunk; see `MobileNet`.
        has_musicnn: whether there is a second trunk; windows are those of `trunk_windows.BOTH`
            then.
    """

    def __init__(
        self,
        width: int,
        patch_size: int,
        segment_frames: int | None = SEGMENT_FRAMES,
        *,
        has_musicnn: bool = False,
    ) -> None:
        super().__init__()
        if patch_size != PATCH_SIZE:
            raise ValueError(f"a mobilenet stem needs patch size {PATCH_SIZE}, got {patch_size}")
        self.input = YamnetInput() if has_musicnn else nn.Identity()
        self.trunk = MobileNet(segment_frames)
        self.musicnn = Musicnn() if has_musicnn else None
        n_second = N_FEATURES if has_musicnn else 0
        self.standard = Standardise(EMBEDDING + n_second, n_second)
        self.proj = nn.Linear(EMBEDDING + n_second, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, M, T) → (N, P, D + E), patches row by row."""
        maps_NPE = self.maps(x)
        return torch.cat([self.project(maps_NPE), maps_NPE], dim=2)

    def maps(self, x: Tensor) -> Tensor:
        """(N, 1, M, T) → (N, P, E), patches row by row."""
        maps: Tensor = self.trunk(self.input(x).to(self.dtype)).flatten(2).transpose(1, 2)
        if self.musicnn is None:
            return maps
        of_window = self.musicnn(x).to(torch.promote_types(maps.dtype, self.proj.weight.dtype))
        return torch.cat([maps, of_window[:, None].expand(-1, maps.shape[1], -1)], dim=2)

    def join_windows(self, height: int, width: int) -> None:
        """Let the trunk take several windows at once; see `MobileNet.join_windows`.

        Args:
            height: M, rows of a window.
            width: T, frames of a window.
        """
        of_trunk = self.input(torch.zeros(1, 1, height, width))
        self.trunk.join_windows(of_trunk.shape[2], of_trunk.shape[3])

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the trunk, where it has weights of its own."""
        first = next(self.trunk.parameters(), None)
        return self.proj.weight.dtype if first is None else first.dtype

    def project(self, maps_NPE: Tensor) -> Tensor:
        """(N, P, E) → (N, P, D)."""
        tokens: Tensor = self.proj(self.standard(maps_NPE).to(self.proj.weight.dtype))
        return tokens


class Standardise(nn.Module):
    """Subtracts a mean, divides by a deviation and clamps at 5 of them, in float32.

    One outlier does not decide a sum of products.

    Args:
        n_features: size of the last axis.
        n_second: how many of them, the last ones, are of a second trunk, and count SECOND_FACTOR
            times.
    """

    def __init__(self, n_features: int, n_second: int = 0) -> None:
        super().__init__()
        self._n_second = n_second
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("deviation", torch.ones(n_features))

    def forward(self, x: Tensor) -> Tensor:
        """(…, n_features) → the same shape, float32."""
        mean, deviation = self.get_buffer("mean"), self.get_buffer("deviation")
        found = ((x.float() - mean.float()) / deviation.float()).clamp(-5, 5)
        if not self._n_second:
            return found
        first, second = found.tensor_split([-self._n_second], dim=-1)
        return torch.cat([first, SECOND_FACTOR * second], dim=-1)

    def fit(self, x: Tensor) -> None:
        """Take mean and deviation from rows (R, n_features)."""
        self.get_buffer("mean").copy_(x.mean(dim=0))
        # 1e-3: a map that is always 0 stays 0
        self.get_buffer("deviation").copy_(x.std(dim=0).clamp(min=1e-3))


class TagHead(nn.Module):
    """Linear heads on the trunk's mean maps and its scores: genres, and music or not.

    Args:
        n_classes: C, number of genres.
        has_musicnn: whether features of a second trunk stand behind the maps.
    """

    def __init__(self, n_classes: int, *, has_musicnn: bool = False) -> None:
        super().__init__()
        n_first = EMBEDDING + len(MUSIC_CLASSES)
        n_second = N_FEATURES if has_musicnn else 0
        self.audioset = nn.Linear(EMBEDDING // 2, N_AUDIOSET)
        self.standard = Standardise(n_first + n_second, n_second)
        self.head = nn.Linear(n_first + n_second, n_classes)
        self.kind = nn.Linear(n_first, 2)

    def forward(self, maps_NE: Tensor) -> Tensor:
        """Logits (N, C) of the mean maps (N, E) of each window."""
        return rowwise.linear(self.standard(self.features(maps_NE)), self.head)

    def features(self, maps_NE: Tensor) -> Tensor:
        """Mean maps, log probabilities of the music classes, and what a second trunk says.

        Returns:
            (N, E + 153) float32.
        """
        maps, second = maps_NE.float().tensor_split([EMBEDDING], dim=1)
        # log sigmoid; written so, it is also finite in ONNX Runtime, whose sigmoid becomes 0
        scores = -F.softplus(-self._scores(maps)[:, MUSIC_CLASSES])
        return torch.cat([maps, scores, second], dim=1)

    def music(self, maps_NE: Tensor) -> Tensor:
        """Log-odds of music against any other sound, (N, 1) float32."""
        first = self.standard(self.features(maps_NE))[:, : self.kind.in_features]
        other, music = rowwise.linear(first, self.kind).unbind(1)
        return (music - other)[:, None]

    def _scores(self, maps: Tensor) -> Tensor:
        """(N, A) log-odds of AudioSet's classes, from the maps of the last two pairs."""
        return rowwise.wide_linear(maps[:, EMBEDDING // 2 :], self.audioset)
