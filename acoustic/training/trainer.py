"""Training loop of a small ViT on log-mel crops, from scratch or from given weights.

A cosine schedule, the batches of `batches`, the optimisers of `optimiser`, masks and patch dropout
for the transformer, label smoothing, and an exponential moving average of the weights, which is
what ships. The last state of the average is kept: no step is picked by its validation accuracy.

The same seed gives the same result on a CPU with the same number of threads, even if the training
was interrupted and resumed, unless a time limit sets its length.

Shapes: N crops, P patches, D width, C classes.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field
from typing import Generic, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from acoustic.classify.engine import cpu_has_bf16
from acoustic.classify.vit import VisionTransformer
from acoustic.errors import ConfigError
from acoustic.training.augment import mask
from acoustic.training.batches import Batch, BatchConfig
from acoustic.training.linear_head import HybridConfig
from acoustic.training.optimiser import OptimiserConfig, Optimisers

logger = logging.getLogger(__name__)

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Settings of a training.

    Attributes:
        n_crops: number of labelled crops in the whole training.
        max_minutes: time limit, minutes; the schedule is shortened to end there if it would take
            longer; None for no limit.
        warmup_ratio: share of the schedule in which the learning rates rise.
        label_smoothing: share of each target spread evenly over all genres, in [0, 1).
        patch_dropout: share of patch tokens dropped in training, in [0, 1).
        ema_decay: decay of the weights' moving average per step, in [0, 1).
        precision: "bf16" or "fp32" arithmetic; the weights stay float32.
        gradient_checkpointing: compute the blocks twice instead of storing their activations.
        seed: random seed of the initial weights and of all draws.
        batches: composition of the batches.
        optimiser: learning rates and decays.
        hybrid: what is fitted before the transformer of a vit_hybrid is trained.
    """

    n_crops: int = 220_000
    max_minutes: float | None = None
    warmup_ratio: float = 0.05
    label_smoothing: float = 0.05
    patch_dropout: float = 0.3
    ema_decay: float = 0.999
    precision: str = "bf16"
    gradient_checkpointing: bool = False
    seed: int = 0
    batches: BatchConfig = field(default_factory=BatchConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    hybrid: HybridConfig = field(default_factory=HybridConfig)

    def __post_init__(self) -> None:
        if self.n_crops < 1 or (self.max_minutes is not None and self.max_minutes <= 0):
            raise ValueError(
                f"n_crops and max_minutes must be positive, got {self.n_crops} and "
                f"{self.max_minutes}"
            )
        if self.precision not in ("bf16", "fp32"):
            raise ValueError(f"unknown precision {self.precision!r}, known are bf16 and fp32")
        if not 0 <= self.patch_dropout < 1 or not 0 <= self.label_smoothing < 1:
            raise ValueError("patch_dropout and label_smoothing must be at least 0 and below 1")

    @property
    def n_steps(self) -> int:
        """Number of optimiser steps, unless the time limit comes first."""
        return math.ceil(self.n_crops / self.batches.batch_size)


def native_precision(device: str) -> str:
    """Precision that is fast and safe for training on a device: "bf16" or "fp32"."""
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device == "cpu" and cpu_has_bf16() else "fp32"


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Progress of a training after a step.

    Attributes:
        step: number of steps done.
        progress: share of the schedule done, in [0, 1].
        loss: moving average of the training loss.
        elapsed_s: training time in seconds, over all interruptions.
        crops_per_s: crops per second since the training was started or resumed.
    """

    step: int
    progress: float
    loss: float
    elapsed_s: float
    crops_per_s: float


class Stream(Protocol):
    """Source of batches: `Batches` of windows, or `MapBatches` of tokens."""

    def stream(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield batches `start` to `stop` − 1."""


class Trainable(Protocol):
    """Interface of a model in three steps, so that tokens can be dropped: the ViT, baselines."""

    def embed(self, x: Tensor) -> Tensor:
        """(N, 1, M, T) → (N, P, D) tokens."""

    def pool(self, x_NPD: Tensor) -> Tensor:
        """(N, P, D) tokens, or any subset of the P → (N, D) features."""

    def logits_per_head(self, x: Tensor, x_ND: Tensor) -> list[Tensor]:
        """Windows and their features → (N, C) float32 logits of each head."""


class Trainer(Generic[Model]):
    """Trains one model by a recipe, and keeps the moving average of its weights.

    Args:
        model: Trainable module with its initial weights; changed in place.
        recipe: training settings.
        device: device to train on, "cpu", "cuda" or "mps".
    """

    def __init__(self, model: Model, recipe: Recipe, device: str = "cpu") -> None:
        self.recipe = recipe
        self.device = device
        self._model = model.to(device).train()
        if isinstance(model, VisionTransformer):
            model.gradient_checkpointing = recipe.gradient_checkpointing
        self.average = copy.deepcopy(self._model).eval().requires_grad_(False)
        self._optimisers = Optimisers(self._model, recipe.optimiser)
        self._step = 0
        self._elapsed_s = 0.0
        self._loss = math.nan

    def run(
        self, batches: Stream, after_step: Callable[[Progress], None] = lambda progress: None
    ) -> Model:
        """Train to the end of the schedule.

        Args:
            batches: source of the crops.
            after_step: callback after every step; may save the state, or raise to stop.

        Returns:
            The averaged model, on the CPU, in evaluation mode.

        Raises:
            ConfigError: the loss is not finite.
        """
        first, begun_s, before_s = self._step, time.monotonic(), self._elapsed_s
        for batch in batches.stream(self._step, self.recipe.n_steps):
            done = self._schedule_done()
            if done >= 1:
                break
            self._train_on(batch, done)
            self._elapsed_s = before_s + time.monotonic() - begun_s
            n_crops = (self._step - first) * self.recipe.batches.batch_size
            after_step(
                Progress(
                    step=self._step,
                    progress=self._schedule_done(),
                    loss=self._loss,
                    elapsed_s=self._elapsed_s,
                    crops_per_s=n_crops / (self._elapsed_s - before_s),
                )
            )
        return self.average.cpu()

    def state_dict(self) -> dict[str, object]:
        """Everything needed to resume later: tensors, numbers and strings only."""
        return {
            "recipe": repr(asdict(self.recipe)),
            "step": self._step,
            "elapsed_s": self._elapsed_s,
            "loss": self._loss,
            "model": self._model.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": self._optimisers.state_dict(),
        }

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Resume from what `state_dict` returned.

        Raises:
            ValueError: the state belongs to another recipe or model.
        """
        if state.get("recipe") != repr(asdict(self.recipe)):
            raise ValueError("it belongs to a training with other settings")
        try:
            self._model.load_state_dict(state["model"])  # type: ignore[arg-type]
            self.average.load_state_dict(state["average"])  # type: ignore[arg-type]
        except RuntimeError as error:
            raise ValueError("it belongs to another model") from error
        self._optimisers.load_state_dict(state["optimisers"])  # type: ignore[arg-type]
        self._step = int(state["step"])  # type: ignore[call-overload]
        self._elapsed_s = float(state["elapsed_s"])  # type: ignore[arg-type]
        self._loss = float(state["loss"])  # type: ignore[arg-type]

    def _schedule_done(self) -> float:
        by_steps = self._step / self.recipe.n_steps
        if self.recipe.max_minutes is None:
            return by_steps
        # Whichever limit is nearer drives the schedule, so the learning rate ends at 0 either way.
        return min(1.0, max(by_steps, self._elapsed_s / (60 * self.recipe.max_minutes)))

    def _train_on(self, batch: Batch, done: float) -> None:
        loss = self._compute_loss(batch)
        value = loss.item()
        if not math.isfinite(value):
            raise ConfigError(f"the loss is {value} at step {self._step}: lower the learning rates")
        self._optimisers.step(loss, schedule_factor(done, self.recipe.warmup_ratio))
        # The decay rises from 0.1 at step 0, so that the average forgets the initial weights.
        decay = min(self.recipe.ema_decay, (1 + self._step) / (10 + self._step))
        update_average(self.average, self._model, decay)
        self._loss = value if self._step == 0 else 0.98 * self._loss + 0.02 * value
        self._step += 1

    def _compute_loss(self, batch: Batch) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(batch.seed)
        torch.manual_seed(batch.seed)  # dropout has no generator argument
        model = cast(Trainable, self._model)
        # The head on statistics gets batch.x without masks, as in serving: with masks its NLL on
        # held-out artists was 1.49 instead of 1.36 after 29,000 crops.
        masked = batch.x
        if batch.x.ndim == 4:  # windows; tokens of a frozen trunk have no bands to mask
            masked = mask(batch.x[:, 0], 0.0, self.recipe.batches.augment, generator)[:, None]
        with arithmetic(self.device, self.recipe.precision):
            tokens_NPD = drop_patches(model.embed(masked), self.recipe.patch_dropout, generator)
            features_ND = model.pool(tokens_NPD)
        smoothing = self.recipe.label_smoothing
        losses = [
            F.cross_entropy(logits, batch.target, label_smoothing=smoothing)
            for logits in model.logits_per_head(batch.x, features_ND)
        ]
        return torch.stack(losses).sum()


def arithmetic(device: str, precision: str) -> AbstractContextManager[object]:
    """Context of a training step: autocast for bf16, and the fastest attention kernel.

    With about fifty tokens, plain attention trains faster on a CPU than the fused kernel, whose
    backward pass took a fifth of the step.
    """
    context = ExitStack()
    context.enter_context(torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"))
    if device == "cpu":
        context.enter_context(sdpa_kernel(SDPBackend.MATH))
    return context


def drop_patches(tokens_NPD: Tensor, ratio: float, generator: torch.Generator) -> Tensor:
    """Keep a random subset of each window's tokens: cheaper steps, and a regulariser."""
    if not ratio:
        return tokens_NPD
    n, p, d = tokens_NPD.shape
    n_keep = max(1, round(p * (1 - ratio)))
    # The order of P uniform draws is a random permutation, one for each window.
    order = torch.rand(n, p, generator=generator, device=generator.device).argsort(dim=1)
    return tokens_NPD.gather(1, order[:, :n_keep, None].expand(-1, -1, d))


def schedule_factor(done: float, warmup_ratio: float) -> float:
    """Factor on the learning rates: linear warm-up, then half a cosine to 0.

    Args:
        done: share of the schedule done, in [0, 1].
        warmup_ratio: share of the schedule in which the factor rises.
    """
    if done < warmup_ratio:
        return max(done, 1e-3) / warmup_ratio  # above 0, so that step 0 is not lost
    return 0.5 * (1 + math.cos(math.pi * (done - warmup_ratio) / (1 - warmup_ratio)))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the model's; buffers are copied."""
    kept: list[Tensor] = list(average.parameters())
    torch._foreach_lerp_(kept, [*model.parameters()], 1 - decay)
    for kept_buffer, new_buffer in zip(average.buffers(), model.buffers(), strict=True):
        kept_buffer.copy_(new_buffer)
