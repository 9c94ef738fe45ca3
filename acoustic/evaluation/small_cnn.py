"""Small CNN baseline, trained like the ViT, to measure what the architecture contributes.

Shapes: K clips, N windows, M mel bands, T frames, P positions, D channels, C classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from acoustic.classify.normalise import Scaling
from acoustic.data.dataset import Clip
from acoustic.training.batches import Batches
from acoustic.training.trainer import Recipe, Trainer, native_precision
from acoustic.training.validate import clip_logits
from acoustic.types import WindowValues

CNN_CHANNELS = (1, 32, 64, 96, 128)


class SmallCnn(nn.Module):
    """Small CNN, (N, 1, M, T) → (N, C): four blocks of convolution, norm, pooling; then a mean.

    It has the three steps of `Trainable`, so that it is trained exactly like the ViT.
    """

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise(CNN_CHANNELS):
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(CNN_CHANNELS[-1], n_classes)

    def embed(self, x: Tensor) -> Tensor:
        """(N, P, D): the positions of the last feature map."""
        features: Tensor = self.layers(x)
        return features.flatten(2).transpose(1, 2)

    def pool(self, x_NPD: Tensor) -> Tensor:
        """(N, D) mean over the positions."""
        return x_NPD.mean(dim=1)

    def logits_per_head(self, x: Tensor, x_ND: Tensor) -> list[Tensor]:
        """(N, C) logits of the only head."""
        return [self.head(x_ND.float())]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) logits of windows."""
        return self.logits_per_head(x, self.pool(self.embed(x)))[0]


def small_cnn(
    train: Sequence[Clip],
    valid: Sequence[Clip],
    *,
    n_classes: int,
    n_frames: int,
    scaling: Scaling,
    n_crops: int,
    n_windows: int,
) -> npt.NDArray[np.int64]:
    """Train a small CNN, and predict the (K,) genres of the valid clips.

    Args:
        train: clips to train on.
        valid: K clips to predict, by the mean probability of their windows.
        n_classes: C, number of genres.
        n_frames: T, frames of one window.
        scaling: normalisation of the input.
        n_crops: number of crops to train on.
        n_windows: windows evaluated per clip.
    """
    torch.manual_seed(0)
    # No tokens to drop and no block matrices for Muon: patch dropout 0, AdamW alone.
    recipe = Recipe(n_crops=n_crops, patch_dropout=0.0, precision=native_precision("cpu"))
    recipe = replace(recipe, optimiser=replace(recipe.optimiser, name="adamw"))
    batches = Batches(
        train,
        [],
        n_classes=n_classes,
        n_frames=n_frames,
        scaling=scaling,
        config=recipe.batches,
        seed=0,
    )
    model = Trainer(SmallCnn(n_classes), recipe).run(batches)

    def forward(windows: WindowValues) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            logits = model(scaling.apply(torch.from_numpy(windows)))
        return np.asarray(logits.softmax(dim=1).mean(dim=0, keepdim=True).numpy())

    found = clip_logits(forward, valid, n_frames, n_windows)
    return np.array([p.argmax() for p in found], np.int64)
