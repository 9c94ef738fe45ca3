"""The plain recipe: a small ViT from scratch on log-mel crops, then a fitted temperature.

AdamW with a cosine schedule, class-balanced sampling, the augmentations of `augment`, mixup,
label smoothing, patch dropout and an exponential moving average of the weights, which is what
ships. The last state of the average is kept: no step is picked by its validation accuracy.

Shapes: N crops, M mel bands, T frames, P patches, D width, C classes.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from acoustic.classify.scaling import Scaling
from acoustic.classify.vit import VisionTransformer, VitConfig
from acoustic.errors import ConfigError
from acoustic.training.augment import AugmentConfig, augment, mask, random_crop
from acoustic.training.dataset import Clip

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a checkpoint is trained.

    Attributes:
        n_crops: crops seen in all. batch_size: crops per step.
        learning_rate: peak. weight_decay: of matrices only. warmup_ratio: share of the steps.
        balance: classes are drawn with their clip count to this power: 1 as they come, 0 equal.
        mixup_alpha: of the Beta distribution. label_smoothing: in [0, 1).
        patch_dropout: share of patch tokens dropped in training, in [0, 1).
        ema_decay: of the weights' moving average, per step.
        precision: "bf16" or "fp32" arithmetic; the weights stay float32.
        seed: of everything random.
        augment: strengths.
    """

    n_crops: int = 220_000
    batch_size: int = 48
    learning_rate: float = 7e-4
    weight_decay: float = 0.05
    warmup_ratio: float = 0.05
    balance: float = 0.5
    mixup_alpha: float = 0.2
    label_smoothing: float = 0.05
    patch_dropout: float = 0.3
    ema_decay: float = 0.999
    precision: str = "bf16"
    seed: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    @property
    def n_steps(self) -> int:
        """Optimiser steps."""
        return math.ceil(self.n_crops / self.batch_size)


def train(
    clips: list[Clip], config: VitConfig, n_frames: int, scaling: Scaling, recipe: Recipe
) -> VisionTransformer:
    """Train one model.

    Args:
        clips: training clips only.
        config: architecture, with as many classes as there are labels.
        n_frames: T of one crop.
        scaling: normalisation that the checkpoint will carry.
        recipe: settings.

    Returns:
        The averaged model, in evaluation mode.

    Raises:
        ConfigError: a clip that is not of the train split, or none at all.
    """
    if not clips or any(clip.split != "train" for clip in clips):
        raise ConfigError("training takes clips of the train split, and at least one")
    torch.manual_seed(recipe.seed)
    batches = _Batches(clips, config.n_classes, n_frames, scaling, recipe)
    model = VisionTransformer(config).train()
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(_parameter_groups(model, recipe), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _factor(step, recipe))
    start_s = time.monotonic()
    for step in range(recipe.n_steps):
        x, target = batches.draw()
        loss = _loss(model, x, target, recipe)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        _update_average(average, model, min(recipe.ema_decay, (1 + step) / (10 + step)))
        if step % 100 == 99:
            rate = (step + 1) * recipe.batch_size / (time.monotonic() - start_s)
            logger.info(
                "step=%d/%d loss=%.3f crops_per_s=%.0f", step + 1, recipe.n_steps, loss.item(), rate
            )
    return average


class _Batches:
    """Draws augmented, mixed batches; owns the random generators."""

    def __init__(
        self, clips: list[Clip], n_classes: int, n_frames: int, scaling: Scaling, recipe: Recipe
    ) -> None:
        self._clips = clips
        self._n_classes = n_classes
        self._n_frames = n_frames
        self._scaling = scaling
        self._recipe = recipe
        self._rng = np.random.default_rng(recipe.seed)
        self._generator = torch.Generator().manual_seed(recipe.seed)
        labels = np.array([clip.label for clip in clips])
        counts = np.bincount(labels, minlength=n_classes)
        weights = counts[labels] ** (recipe.balance - 1.0)
        self._weights = weights / weights.sum()

    def draw(self) -> tuple[Tensor, Tensor]:
        """(N, 1, M, T) normalised crops and (N, C) soft targets."""
        recipe = self._recipe
        chosen = self._rng.choice(len(self._clips), recipe.batch_size, p=self._weights)
        clips = [self._clips[i] for i in chosen]
        crops = [random_crop(c.log_mel, self._n_frames, recipe.augment, self._rng) for c in clips]
        crops_db = augment(torch.stack(crops), recipe.augment, self._generator)
        x = mask(self._scaling.scale_db(crops_db), 0.0, recipe.augment, self._generator)
        labels = torch.tensor([clip.label for clip in clips])
        return self._mix(x[:, None], F.one_hot(labels, self._n_classes).float())

    def _mix(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Zhang et al., mixup (2018), with one weight per pair."""
        alpha = self._recipe.mixup_alpha
        weight = torch.from_numpy(self._rng.beta(alpha, alpha, len(x)).astype(np.float32))
        weight = torch.maximum(weight, 1 - weight)
        other = torch.randperm(len(x), generator=self._generator)
        mixed = weight[:, None, None, None] * x + (1 - weight)[:, None, None, None] * x[other]
        return mixed, weight[:, None] * target + (1 - weight)[:, None] * target[other]


def _loss(model: VisionTransformer, x: Tensor, target: Tensor, recipe: Recipe) -> Tensor:
    # With some fifty tokens, plain attention trains faster on a CPU than the fused kernel, whose
    # backward pass took a fifth of the step.
    precision = torch.autocast("cpu", torch.bfloat16, enabled=recipe.precision == "bf16")
    with precision, sdpa_kernel(SDPBackend.MATH):
        tokens_NPD = _drop_patches(model.embed(x), recipe.patch_dropout)
        features_ND = model.encode(tokens_NPD)
    logits = model.classify(features_ND)
    return F.cross_entropy(logits, target, label_smoothing=recipe.label_smoothing)


def _drop_patches(tokens_NPD: Tensor, ratio: float) -> Tensor:
    """Keep a random subset of each window's tokens: cheaper steps, and a regulariser."""
    n, p, d = tokens_NPD.shape
    n_keep = max(1, round(p * (1 - ratio)))
    keep = torch.rand(n, p).argsort(dim=1)[:, :n_keep]
    return tokens_NPD.gather(1, keep[:, :, None].expand(-1, -1, d))


def _parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, object]]:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def _factor(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine to zero."""
    n_warmup = max(1, round(recipe.n_steps * recipe.warmup_ratio))
    if step < n_warmup:
        return (step + 1) / n_warmup
    progress = (step - n_warmup) / max(1, recipe.n_steps - n_warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    for kept, new in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)
    for kept_buffer, new_buffer in zip(average.buffers(), model.buffers(), strict=True):
        kept_buffer.copy_(new_buffer)
