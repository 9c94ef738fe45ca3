"""Small trainings: three made genres, a tiny model, a recipe of seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from acoustic.classify.normalise import Scaling
from acoustic.classify.vit import VisionTransformer
from acoustic.data.dataset import Clip
from acoustic.labels import Label, LabelSet
from acoustic.training.batches import BatchConfig, Batches
from acoustic.training.optimiser import OptimiserConfig
from acoustic.training.trainer import Recipe
from tests.support.clips import GENRES_MADE, N_FRAMES, OFF, clip
from tests.support.models import TINY

RECIPE = Recipe(
    n_crops=1200,
    ema_decay=0.9,
    batches=BatchConfig(batch_size=24, mixup_alpha=0.01, augment=OFF),
    optimiser=OptimiserConfig(learning_rate=2e-3, matrix_rate=2e-3),
)

MADE = LabelSet([Label(name="Beats"), Label(name="Notes"), Label(name="Neither")])


def three_genres(split: str = "train", first_seed: int = 0, n: int = 6) -> list[Clip]:
    return [
        replace(clip(label, first_seed + seed, split), label=index)
        for index, label in enumerate(GENRES_MADE)
        for seed in range(n)
    ]


def batches(
    recipe: Recipe, outliers: list[np.ndarray] | None = None, n_classes: int = 3
) -> Batches:
    return Batches(
        three_genres(),
        outliers or [],
        n_classes=n_classes,
        n_frames=N_FRAMES,
        scaling=Scaling(),
        config=recipe.batches,
        seed=recipe.seed,
    )


def new_model(seed: int = 0) -> VisionTransformer:
    torch.manual_seed(seed)
    return VisionTransformer(replace(TINY, n_classes=3))
