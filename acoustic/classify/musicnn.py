"""musicnn: a second pre-trained trunk, trained on the tags that listeners gave to music.

YAMNet's trunk (`mobilenet`) learned what sounds there are, this one what listeners call music: they
err on different tracks. Its filters span either many bands (timbre) or many frames (rhythm), each
reduced to its strongest band; three convolutions over time and two dense layers follow.

The weights are those of MSD_musicnn (Music Technology Group, Universitat Pompeu Fabra, 2019, ISC
licence), trained on the Million Song Dataset. Timbre filters are placed at every fourth band and
rhythm filters at every second, 30 % of the work: linear heads on either answered collections left
out alike.

Source: Pons and Serra, musicnn: Pre-trained Convolutional Neural Networks for Music Audio Tagging
(2019); Pons et al., End-to-end Learning for Music Audio Tagging at Scale (2018).
Shapes: N windows, M = 96 mel bands, T frames, U = T / 1.6 frames of musicnn, F features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acoustic.classify import rowwise
from acoustic.classify.trunk_windows import BOTH
from acoustic.geometry import YAMNET_MELS

HOP_RATIO = 256 / BOTH.hop_length
"""musicnn's hop, 16 ms, against that of the windows."""

POWER_GAIN = 1.4
"""Power in a Hann window of 32 ms, which musicnn has, against one of 25 ms: halfway between tones
and noise."""

PEAK = 2.3
"""Natural logarithm of the square root of the loudest power of a window: the median over music."""

TIMBRAL = ((204, 38), (204, 67))
"""Filters, and bands that each spans, over TIMBRAL_FRAMES frames."""

TIMBRAL_FRAMES = 7
TEMPORAL = ((51, 128), (51, 64), (51, 32))
"""Filters, and frames that each spans, of one band."""

N_MIDDLE, MIDDLE_FRAMES, N_MIDDLE_LAYERS = 64, 7, 3
N_DENSE, N_TAGS = 200, 50
N_CHANNELS = sum(n for n, _ in (*TIMBRAL, *TEMPORAL)) + N_MIDDLE_LAYERS * N_MIDDLE
N_FEATURES = N_DENSE + N_TAGS
TIMBRAL_STRIDE, TEMPORAL_STRIDE = 4, 2
"""Bands from one place of a filter to the next."""


class BandFilters(nn.Module):
    """Convolution, ReLU and batch norm of which only the strongest band of each frame is kept.

    A batch norm with a negative factor turns the strongest into the weakest. Such filters are
    stored with the opposite sign, so that one maximum serves all.

    Args:
        n_filters: number of filters.
        bands: bands that a filter spans.
        frames: frames that a filter spans.
        stride: bands from one place of a filter to the next.
    """

    def __init__(self, n_filters: int, bands: int, frames: int, stride: int) -> None:
        super().__init__()
        self.frames = frames
        self.conv = nn.Conv2d(1, n_filters, (bands, frames), stride=(stride, 1))
        self.affine = Affine(n_filters)
        self.register_buffer("sign", torch.ones(n_filters))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, M, U) → (N, n_filters, U) float32."""
        before = (self.frames - 1) // 2  # as in TensorFlow
        x = F.pad(x, (before, self.frames - 1 - before))
        strongest = self.conv(x.to(self.conv.weight.dtype)).amax(dim=2).float()
        out: Tensor = self.affine(F.relu(strongest * self.get_buffer("sign").float()[:, None]))
        return out


class Affine(nn.Module):
    """A batch norm as it is after training: a factor and a summand per channel.

    Args:
        n_channels: size of the axis before the last.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.register_buffer("factor", torch.ones(n_channels))
        self.register_buffer("summand", torch.zeros(n_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(…, n_channels, U) → the same shape."""
        factor, summand = self.get_buffer("factor").float(), self.get_buffer("summand").float()
        return x * factor[:, None] + summand[:, None]


class Musicnn(nn.Module):
    """Windows to what the last two layers say of them."""

    def __init__(self) -> None:
        super().__init__()
        self.normalise = Affine(1)
        self.timbral = nn.ModuleList(
            BandFilters(n, b, TIMBRAL_FRAMES, TIMBRAL_STRIDE) for n, b in TIMBRAL
        )
        self.temporal = nn.ModuleList(
            BandFilters(n, 1, frames, TEMPORAL_STRIDE) for n, frames in TEMPORAL
        )
        n_in = sum(n for n, _ in (*TIMBRAL, *TEMPORAL))
        self.middle = nn.ModuleList(
            nn.Conv1d(n_in if i == 0 else N_MIDDLE, N_MIDDLE, MIDDLE_FRAMES, padding="same")
            for i in range(N_MIDDLE_LAYERS)
        )
        self.middle_affine = nn.ModuleList(Affine(N_MIDDLE) for _ in range(N_MIDDLE_LAYERS))
        self.dense = nn.Linear(2 * N_CHANNELS, N_DENSE)
        self.tags = nn.Linear(N_DENSE, N_TAGS)

    def forward(self, x: Tensor) -> Tensor:
        """Dense layer and log-odds of the tags.

        Args:
            x: (N, 1, 64 + M, T) ln(√power + offset), frames 10 ms apart.

        Returns:
            (N, F) float32.
        """
        x = musicnn_input(x)
        if rowwise.is_eager_on_cpu(x):
            # window by window: the kernels, and with them the last digits, depend on the batch size
            pooled = torch.cat([self._pooled(each[None]) for each in x])
        else:
            pooled = self._pooled(x)
        dense = F.relu(rowwise.wide_linear(pooled, self.dense))
        return torch.cat([dense, rowwise.wide_linear(dense, self.tags)], dim=1)

    def convolutions(self) -> list[nn.Conv1d | nn.Conv2d]:
        """The layers that may run in a lower precision."""
        return [*(each.conv for each in (*self.timbral, *self.temporal)), *self.middle]

    def _pooled(self, x: Tensor) -> Tensor:
        """(N, 1, M, U) → (N, 2 · N_CHANNELS) maximum, then mean, over time of each channel."""
        x = self.normalise(x.float())
        found = torch.cat([filters(x) for filters in (*self.timbral, *self.temporal)], dim=1)
        channels = [found]
        for i, (convolution, affine) in enumerate(
            zip(self.middle, self.middle_affine, strict=True)
        ):
            convolved = convolution(found.to(next(convolution.parameters()).dtype)).float()
            found = affine(F.relu(convolved)) + (found if i else 0.0)
            channels.append(found)
        every = torch.cat(channels, dim=1)
        return torch.cat([every.amax(dim=2), every.mean(dim=2)], dim=1)


def musicnn_input(x: Tensor) -> Tensor:
    """Windows as the trunk was trained on them.

    Args:
        x: (N, 1, 64 + M, T) ln(√power + offset), frames 10 ms apart.

    Returns:
        (N, 1, M, U) float32 log10(1 + 10,000 · power), frames 16 ms apart.
    """
    n_frames = round((x.shape[-1] - 1) / HOP_RATIO)
    place = torch.arange(n_frames, device=x.device) * HOP_RATIO
    first = place.long()
    share = (place - first).to(torch.float32)
    x = x[:, :, YAMNET_MELS:].float()
    level = x[..., first] * (1 - share) + x[..., first + 1] * share
    level = level - level.amax(dim=(2, 3), keepdim=True) + PEAK
    return torch.log10(1 + 1e4 * POWER_GAIN * torch.exp(2 * level))
