"""Optimisers: who steps what, and AdamW against torch's own."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from acoustic.classify.vit import VisionTransformer
from acoustic.training.optimiser import OptimiserConfig, Optimisers
from tests.support.models import TINY, tiny_model


def model() -> VisionTransformer:
    return tiny_model(replace(TINY, n_classes=3))


def loss_of(module: nn.Module, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.stack([(p**2).sum() for p in module.parameters()]).sum()


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_every_parameter_is_stepped_by_exactly_one_optimiser(name: str) -> None:
    made = model()
    optimisers = Optimisers(made, OptimiserConfig(name=name))  # type: ignore[arg-type]
    stepped = [
        id(p) for each in optimisers._all for group in each.param_groups for p in group["params"]
    ]
    assert sorted(stepped) == sorted(id(p) for p in made.parameters())
    assert len(optimisers._all) == (2 if name == "muon" else 1)


def test_muon_steps_the_matrices_of_the_blocks_and_nothing_else() -> None:
    made = model()
    muon, _ = Optimisers(made, OptimiserConfig())._all
    by_muon = {id(p) for group in muon.param_groups for p in group["params"]}
    for name, parameter in made.named_parameters():
        assert (id(parameter) in by_muon) == (name.startswith("blocks.") and parameter.ndim == 2)


def test_vectors_do_not_decay() -> None:
    (adamw,) = Optimisers(model(), OptimiserConfig(name="adamw", weight_decay=0.3))._all
    for group in adamw.param_groups:
        (parameter,) = group["params"]
        assert group["weight_decay"] == (0.3 if parameter.ndim > 1 else 0.0)


def test_adamw_without_decays_is_that_of_torch() -> None:
    config = OptimiserConfig(name="adamw", learning_rate=1e-2, weight_decay=0.0)
    ours, theirs = model(), model()
    optimisers = Optimisers(ours, config)
    reference = torch.optim.AdamW(theirs.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(3):
        optimisers.step(loss_of(ours), 1.0)
        reference.zero_grad()
        loss_of(theirs).backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), config.max_gradient_norm)
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_a_factor_of_zero_moves_nothing(name: str) -> None:
    made = model()
    before = copy.deepcopy(made.state_dict())
    Optimisers(made, OptimiserConfig(name=name)).step(loss_of(made), 0.0)  # type: ignore[arg-type]
    for key, value in made.state_dict().items():
        torch.testing.assert_close(value, before[key], atol=0, rtol=0)


def test_gradients_above_the_norm_are_clipped() -> None:
    made = model()
    Optimisers(made, OptimiserConfig(max_gradient_norm=0.5)).step(loss_of(made, 1e6), 1.0)
    norms = torch.stack([p.grad.norm() for p in made.parameters() if p.grad is not None])
    assert float(norms.norm()) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_a_restored_state_takes_the_same_next_step(name: str) -> None:
    config = OptimiserConfig(name=name)  # type: ignore[arg-type]
    made = model()
    first = Optimisers(made, config)
    first.step(loss_of(made), 1.0)
    copied = copy.deepcopy(made)
    second = Optimisers(copied, config)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    first.step(loss_of(made), 0.5)
    second.step(loss_of(copied), 0.5)
    for a, b in zip(made.parameters(), copied.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)


@pytest.mark.parametrize("changes", [{"name": "sgd"}, {"layer_decay": 0.0}, {"layer_decay": 1.1}])
def test_settings_that_cannot_work_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"unknown optimiser|layer_decay is"):
        OptimiserConfig(**changes)  # type: ignore[arg-type]
