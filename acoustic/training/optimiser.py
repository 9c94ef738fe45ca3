"""Optimisers of a training: Muon and AdamW, with a learning rate per layer.

Muon steps the matrices of the transformer blocks, AdamW everything else. On validation clips
the pair was ahead of AdamW alone after the same number of crops (`python -m benchmarks.recipe`).
In fine-tuning the learning rate falls from the head to the stem, block by block, so that the
general features of the first layers change least.

Source: Jordan, Muon (2024); Loshchilov and Hutter, AdamW (2019); layer-wise decay as in Clark et
al., ELECTRA (2020).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

OptimiserName = Literal["muon", "adamw"]


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimiserConfig:
    """Learning rates and decays.

    Attributes:
        name: "muon" (with AdamW for all other parameters) or "adamw" alone.
        matrix_rate: peak learning rate of Muon, scaled so that an update has AdamW's usual size.
        learning_rate: peak learning rate of AdamW.
        weight_decay: weight decay of the matrices; vectors have none.
        layer_decay: factor on the rate per block away from the head, in (0, 1]; 1 is off.
        max_gradient_norm: norm to which larger gradients are clipped.
    """

    name: OptimiserName = "muon"
    matrix_rate: float = 1e-3
    learning_rate: float = 7e-4
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    max_gradient_norm: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in ("muon", "adamw"):
            raise ValueError(f"unknown optimiser {self.name!r}, known are muon and adamw")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay is {self.layer_decay}, limits are above 0 to 1")


class Optimisers:
    """Steps all parameters of a model with their optimisers.

    Args:
        model: model whose parameters are stepped, where they require a gradient.
        config: learning rates and decays.
    """

    def __init__(self, model: nn.Module, config: OptimiserConfig) -> None:
        self._config = config
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._all = list(_build(model, config))
        self._peaks = [[group["lr"] for group in each.param_groups] for each in self._all]

    def step(self, loss: torch.Tensor, factor: float) -> None:
        """Backpropagate the loss, and step at `factor` times the peak learning rates."""
        for optimiser, peaks in zip(self._all, self._peaks, strict=True):
            optimiser.zero_grad(set_to_none=True)
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self._parameters, self._config.max_gradient_norm)
        for optimiser in self._all:
            optimiser.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """State of all optimisers, for a later `load_state_dict`."""
        return [optimiser.state_dict() for optimiser in self._all]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Restore the state that `state_dict` returned."""
        for optimiser, state in zip(self._all, states, strict=True):
            optimiser.load_state_dict(state)


def _build(model: nn.Module, config: OptimiserConfig) -> Iterator[Optimizer]:
    names = {n: p for n, p in model.named_parameters() if p.requires_grad}
    use_muon = config.name == "muon"
    block_matrices = {n: p for n, p in names.items() if use_muon and _is_block_matrix(n, p)}
    rest = {n: p for n, p in names.items() if n not in block_matrices}
    depth = 1 + max((_block(name) for name in names), default=0)
    rate = _layer_factors(depth, config.layer_decay)
    # One group per parameter, because the rate depends on its block. Muon's updates have the size
    # of AdamW's (match_rms_adamw), so that its rates can be read on the same scale.
    if block_matrices:
        groups = [
            {"params": [p], "lr": config.matrix_rate * rate(n)} for n, p in block_matrices.items()
        ]
        yield torch.optim.Muon(
            groups, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
        )
    yield torch.optim.AdamW(
        [
            {
                "params": [p],
                "lr": config.learning_rate * rate(n),
                "weight_decay": config.weight_decay if p.ndim > 1 else 0.0,
            }
            for n, p in rest.items()
        ]
    )


def _is_block_matrix(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim == 2 and name.startswith("blocks.")


def _block(name: str) -> int:
    """Index of the block that a parameter belongs to; -1 for stem and positions."""
    parts = name.split(".")
    return int(parts[1]) if parts[0] == "blocks" else -1


def _layer_factors(depth: int, decay: float) -> Callable[[str], float]:
    """Parameter name → factor: 1 at the head, decay^(depth + 1) at the stem."""

    def factor(name: str) -> float:
        if name.startswith(("head.", "norm.", "statistics.")):
            return 1.0
        return float(decay ** (depth - _block(name)))

    return factor
