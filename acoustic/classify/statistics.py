"""Window statistics: 248 classical audio features, and a small classification head on them.

A small transformer trained on a few thousand recordings misses what classical features measure
directly: timbre, tonality and rhythm, averaged over the window. A second head on these features
reduces the error (docs/recipe.md), so the small variants have both.

    cepstra      timbre: mean and deviation over time, and deviation of the slopes; Tzanetakis and
                 Cook, Musical Genre Classification of Audio Signals (2002)
    bands        loudness of 32 band groups: mean and deviation
    contrast     peak minus valley in 16 groups of bands: mean and deviation; after Jiang et
                 al., Music Type Classification by Spectral Contrast Feature (2002)
    onsets       how much the bands rise from frame to frame: mean and deviation
    modulation   how fast 8 band groups and the onsets fluctuate: rhythm; after McKinney and
                 Breebaart, Features for Audio and Music Classification (2003)

Everything is computed from the model's own input window, in float32 and without a matrix product
over the batch: a window's numbers do not depend on the other windows of its batch.

Shapes: N windows, M mel bands, T frames, K cepstra, F features, D hidden width, C classes.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acoustic.classify import rowwise

N_CEPSTRA = 20
N_BANDS, N_CONTRASTS, N_MODULATED = 32, 16, 8
MODULATION_EDGES = (1, 2, 3, 4, 5, 7, 10, 14, 20, 29, 41)
"""Edges of the modulation bands, in bins of the spectrum over T frames: bin k is k periods per
window."""

N_STATISTICS = (
    3 * N_CEPSTRA
    + 2 * (N_BANDS + N_CONTRASTS + 1)
    + (N_MODULATED + 1) * (len(MODULATION_EDGES) - 1)
)
# rfft of T frames has T // 2 + 1 bins; the last band ends with bin 40
MIN_FRAMES = 2 * (MODULATION_EDGES[-1] - 1)


def window_statistics(x_NMT: Tensor) -> Tensor:
    """248 statistics of each normalised log-mel window.

    Args:
        x_NMT: (N, M, T) float, M a multiple of 32, T ≥ MIN_FRAMES.

    Returns:
        (N, N_STATISTICS) float32.
    """
    with torch.autocast(x_NMT.device.type, enabled=False):
        return _window_statistics(x_NMT.float())


def _window_statistics(x_NMT: Tensor) -> Tensor:
    cepstra = _cepstra(x_NMT)  # (N, K, T)
    # spectral flux (N, 1, T - 1): falls are clamped to 0, only rises count
    onsets = (x_NMT[:, :, 1:] - x_NMT[:, :, :-1]).clamp(min=0).mean(dim=1, keepdim=True)
    groups = _grouped(x_NMT, N_CONTRASTS)  # (N, 16, M / 16, T)
    # (N, K + 32 + 16, T): cepstra, loudness of band groups, contrast
    curves = torch.cat([cepstra, _group_means(x_NMT, N_BANDS), groups.amax(2) - groups.amin(2)], 1)
    slopes = cepstra[:, :, 1:] - cepstra[:, :, :-1]
    parts = [
        curves.mean(dim=2),
        curves.std(dim=2),
        slopes.std(dim=2),
        onsets.mean(dim=2),
        onsets.std(dim=2),
        _modulation(_group_means(x_NMT, N_MODULATED)).flatten(1),
        # the first frame has no rise: one zero in front restores T frames
        _modulation(F.pad(onsets, (1, 0))).flatten(1),
    ]
    return torch.cat(parts, dim=1)


class StatisticsHead(nn.Module):
    """Classification head on window statistics: (N, 1, M, T) → (N, C) float32 logits.

    Args:
        hidden: D, width of the hidden layer.
        n_classes: C, number of genres.
    """

    def __init__(self, hidden: int, n_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(N_STATISTICS, affine=False, momentum=0.01)
        self.fc1 = nn.Linear(N_STATISTICS, hidden)
        self.drop = nn.Dropout(0.5)
        self.fc2 = nn.Linear(hidden, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, C) of a batch of normalised windows (N, 1, M, T)."""
        # clamped at 5 standard deviations, so that one outlier does not decide the logits
        features = rowwise.standardised(window_statistics(x[:, 0]), self.norm).clamp(-5, 5)
        hidden = F.gelu(rowwise.linear(features, self.fc1))
        return rowwise.linear(self.drop(hidden), self.fc2)


def _cepstra(x_NMT: Tensor) -> Tensor:
    """Cepstra (N, K, T): DCT-II over the bands, orthonormal except for row 0."""
    # c[k] = √(2 / M) · Σ_m x[m] · cos(π / M · k · (m + ½)); row 0 lacks the factor √½
    n_mels = x_NMT.shape[1]
    order = torch.arange(N_CEPSTRA, device=x_NMT.device)[:, None]
    place = torch.arange(n_mels, device=x_NMT.device)[None] + 0.5
    basis = torch.cos(math.pi / n_mels * order * place) * math.sqrt(2 / n_mels)
    # expanded to one product per window, so that the digits do not depend on N
    return torch.matmul(basis.expand(x_NMT.shape[0], -1, -1), x_NMT)


def _grouped(x_NMT: Tensor, n_groups: int) -> Tensor:
    n, n_mels, n_frames = x_NMT.shape
    return x_NMT.reshape(n, n_groups, n_mels // n_groups, n_frames)


def _group_means(x_NMT: Tensor, n_groups: int) -> Tensor:
    return _grouped(x_NMT, n_groups).mean(dim=2)


def _modulation(curves: Tensor) -> Tensor:
    """Log magnitudes of the modulation bands: (N, G, T) → (N, G, 10)."""
    # mean removed and Hann taper, so that the mean level does not leak into the lowest bands
    taper = torch.hann_window(curves.shape[2], periodic=False, device=curves.device)
    level = curves - curves.mean(dim=2, keepdim=True)
    spectrum = torch.fft.rfft(level * taper, dim=2).abs()
    bands = [
        spectrum[:, :, low:high].mean(dim=2) for low, high in itertools.pairwise(MODULATION_EDGES)
    ]
    return torch.stack(bands, dim=2).log1p()
