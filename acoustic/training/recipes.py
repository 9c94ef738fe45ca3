"""Default settings of a training, by what the model's stem is."""

from __future__ import annotations

from dataclasses import replace

from acoustic.classify.vit_config import VitConfig
from acoustic.training.augment import LIGHT
from acoustic.training.batches import BatchConfig
from acoustic.training.linear_head import HybridConfig
from acoustic.training.optimiser import OptimiserConfig
from acoustic.training.trainer import Recipe

HYBRID = Recipe(
    n_crops=144_000,
    label_smoothing=0.0,
    ema_decay=0.995,
    batches=BatchConfig(batch_size=96, balance=0.75, collection_balance=0.75, augment=LIGHT),
    optimiser=OptimiserConfig(name="adamw", learning_rate=5e-4, weight_decay=0.1),
)
"""A frozen trunk: the transformer behind it is small and learns from the linear head."""

TWO_TRUNKS = replace(HYBRID, hybrid=HybridConfig(penalty=1.0))
"""The same of two trunks, whose linear head has features that count more."""


def default_recipe(architecture: VitConfig) -> Recipe:
    """The recipe that an architecture was measured with (docs/recipe.md)."""
    if architecture.stem != "mobilenet":
        return Recipe()
    return TWO_TRUNKS if architecture.musicnn else HYBRID


def without_noise(recipe: Recipe) -> Recipe:
    """The same recipe whose crops get no noise."""
    augment = replace(recipe.batches.augment, noise_probability=0.0)
    return replace(recipe, batches=replace(recipe.batches, augment=augment))
