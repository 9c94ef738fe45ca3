"""Fit the linear head on a pre-trained trunk: logistic regression with an L2 penalty.

The problem is convex: L-BFGS finds its one solution, whatever the seed. With a few hundred
recordings the penalty decides more than anything else: the trunk's two thousand numbers tell
collections apart as well as genres.

Source: Alain and Bengio, Understanding Intermediate Layers Using Linear Classifier Probes (2016).
Shapes: R crops, F features, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acoustic.errors import ConfigError

MAX_ITERATIONS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class HybridConfig:
    """Settings of what is fitted before the transformer is trained.

    Attributes:
        penalty: of the linear head; see `fit_linear_head`.
        kind_penalty: of the head that tells music from other sounds.
        tag_prior: how far a new linear head starts at AudioSet's genres; see `tag_prior`.
        augmented: how much an augmented crop counts for the linear head, against one that is not.
        taught: share of the cross-fitted answers in the transformer's targets, in [0, 1]; the rest
            is the label.
    """

    penalty: float = 0.3
    kind_penalty: float = 0.03
    tag_prior: float = 2.0
    augmented: float = 0.1
    taught: float = 0.7

    def __post_init__(self) -> None:
        if min(self.penalty, self.kind_penalty) <= 0 or not 0 <= self.taught <= 1:
            raise ValueError(
                f"penalties {self.penalty} and {self.kind_penalty} must be positive, taught "
                f"{self.taught} within 0 to 1"
            )
        if min(self.tag_prior, self.augmented) < 0:
            raise ValueError(
                f"tag_prior {self.tag_prior} and augmented {self.augmented} must not be negative"
            )


def fit_linear_head(
    head: nn.Linear, features: Tensor, target: Tensor, weights: Tensor, penalty: float
) -> None:
    """Fit a linear layer in place; the penalty draws it to the weights that it has.

    Args:
        head: layer with F inputs and C outputs. A new one is drawn to zero, one that was trained
            before to what it knows.
        features: (R, F) float32, standardised.
        target: (R, C) float32, rows sum to 1.
        weights: (R,) float32, how much each crop counts; only their ratios matter.
        penalty: weight of half the squared distance from the start, against the mean cross-entropy
            in nats.

    Raises:
        ConfigError: the features or the loss are not finite.
    """
    shares = weights / weights.sum()
    start = head.weight.detach().clone()
    delta = torch.zeros_like(start, requires_grad=True)
    bias = head.bias.detach().clone().requires_grad_(True)
    optimiser = torch.optim.LBFGS(
        [delta, bias], max_iter=MAX_ITERATIONS, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
    )
    known = features @ start.T

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = known + features @ delta.T + bias
        fit = (F.cross_entropy(logits, target, reduction="none") * shares).sum()
        total = fit + penalty / 2 * delta.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    final = optimiser.step(loss).item()  # type: ignore[no-untyped-call]
    if not math.isfinite(final) or not torch.isfinite(delta).all():
        raise ConfigError(f"the loss of the linear head is {final}: the features are not finite")
    with torch.no_grad():
        head.weight.copy_(start + delta)
        head.bias.copy_(bias)
