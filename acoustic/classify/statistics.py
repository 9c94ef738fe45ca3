"""What a window sounds like in 248 numbers, and a small classifier on them.

A transformer of this size, learned from some thousand recordings, overlooks what the classical
features of the field say at once: timbre, tonality and rhythm, averaged over the window. With this
head beside it, it errs less (docs/recipe.md), so the small variants carry both.

    cepstra      timbre: mean and deviation over time, and deviation of the slopes; Tzanetakis and
                 Cook, Musical Genre Classification of Audio Signals (2002)
    bands        loudness of 32 band groups: mean and deviation
    contrast     peak against valley in 16 groups of bands: mean and deviation; after Jiang et
                 al., Music Type Classification by Spectral Contrast Feature (2002)
    onsets       how much the bands rise from frame to frame: mean and deviation
    modulation   how fast 8 band groups and the onsets fluctuate: rhythm; after McKinney and
                 Breebaart, Features for Audio and Music Classification (2003)

Everything is computed from the window that is there anyway, in float32 arithmetic, without a
matrix product over the batch: a window's numbers do not depend on what shares its batch.

Shapes: N windows, M mel bands, T frames, K cepstra, F features, D hidden width, C classes.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

N_CEPSTRA = 20
N_BANDS, N_CONTRASTS, N_MODULATED = 32, 16, 8
MODULATION_EDGES = (1, 2, 3, 4, 5, 7, 10, 14, 20, 29, 41)
"""Bins of the spectrum over the window's T frames; 1 is one period per window."""

N_STATISTICS = (
    3 * N_CEPSTRA
    + 2 * (N_BANDS + N_CONTRASTS + 1)
    + (N_MODULATED + 1) * (len(MODULATION_EDGES) - 1)
)
MIN_FRAMES = 2 * (MODULATION_EDGES[-1] - 1)


def window_statistics(x_NMT: Tensor) -> Tensor:
    """Features of normalised log-mel windows.

    Args:
        x_NMT: (N, M, T) float, M a multiple of 32, T ≥ MIN_FRAMES.

    Returns:
        (N, N_STATISTICS) float32.
    """
    with torch.autocast(x_NMT.device.type, enabled=False):
        return _window_statistics(x_NMT.float())


def _window_statistics(x_NMT: Tensor) -> Tensor:
    cepstra = _cepstra(x_NMT)
    onsets = (x_NMT[:, :, 1:] - x_NMT[:, :, :-1]).clamp(min=0).mean(dim=1, keepdim=True)
    groups = _grouped(x_NMT, N_CONTRASTS)
    curves = torch.cat([cepstra, _group_means(x_NMT, N_BANDS), groups.amax(2) - groups.amin(2)], 1)
    slopes = cepstra[:, :, 1:] - cepstra[:, :, :-1]
    parts = [
        curves.mean(dim=2),
        curves.std(dim=2),
        slopes.std(dim=2),
        onsets.mean(dim=2),
        onsets.std(dim=2),
        _modulation(_group_means(x_NMT, N_MODULATED)).flatten(1),
        _modulation(F.pad(onsets, (1, 0))).flatten(1),
    ]
    return torch.cat(parts, dim=1)


class StatisticsHead(nn.Module):
    """(N, 1, M, T) → (N, C) float32 logits, from the windows' statistics alone.

    Args:
        hidden: D. n_classes: C.
    """

    def __init__(self, hidden: int, n_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(N_STATISTICS, affine=False, momentum=0.01)
        self.fc1 = nn.Linear(N_STATISTICS, hidden)
        self.drop = nn.Dropout(0.5)
        self.fc2 = nn.Linear(hidden, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of windows."""
        features = self._normalise(window_statistics(x[:, 0])).clamp(-5, 5)
        hidden = F.gelu(_linear(features, self.fc1))
        return _linear(self.drop(hidden), self.fc2)

    def _normalise(self, features: Tensor) -> Tensor:
        if self.training:
            out: Tensor = self.norm(features)
            return out
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None
        assert variance is not None
        return (features - mean.float()) / (variance.float() + self.norm.eps).sqrt()


def _linear(x_ND: Tensor, layer: nn.Linear) -> Tensor:
    """A float32 linear layer as products and a sum, the same digits in every batch."""
    return (x_ND[:, None, :] * layer.weight.float()).sum(dim=-1) + layer.bias.float()


def _cepstra(x_NMT: Tensor) -> Tensor:
    """(N, K, T): DCT-II over the bands, orthonormal but for the first."""
    n_mels = x_NMT.shape[1]
    order = torch.arange(N_CEPSTRA, device=x_NMT.device)[:, None]
    place = torch.arange(n_mels, device=x_NMT.device)[None] + 0.5
    basis = torch.cos(math.pi / n_mels * order * place) * math.sqrt(2 / n_mels)
    return torch.matmul(basis.expand(len(x_NMT), -1, -1), x_NMT)


def _grouped(x_NMT: Tensor, n_groups: int) -> Tensor:
    n, n_mels, n_frames = x_NMT.shape
    return x_NMT.reshape(n, n_groups, n_mels // n_groups, n_frames)


def _group_means(x_NMT: Tensor, n_groups: int) -> Tensor:
    return _grouped(x_NMT, n_groups).mean(dim=2)


def _modulation(curves: Tensor) -> Tensor:
    """(N, G, T) → (N, G, bands of MODULATION_EDGES) log magnitudes."""
    taper = torch.hann_window(curves.shape[2], periodic=False, device=curves.device)
    level = curves - curves.mean(dim=2, keepdim=True)
    spectrum = torch.fft.rfft(level * taper, dim=2).abs()
    bands = [
        spectrum[:, :, low:high].mean(dim=2) for low, high in itertools.pairwise(MODULATION_EDGES)
    ]
    return torch.stack(bands, dim=2).log1p()
