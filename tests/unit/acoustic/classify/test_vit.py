"""The Vision Transformer and its configuration."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from acoustic.classify.vit import VisionTransformer
from acoustic.classify.vit_config import VARIANTS, VitConfig
from tests.support.models import TINY, tiny_model


@pytest.mark.parametrize(
    ("variant", "n_parameters"),
    [
        ("vit_nano", 3.47e6),
        ("vit_tiny", 6.14e6),
        ("vit_small", 24.3e6),
    ],
)
def test_variants_have_their_stated_size(variant: str, n_parameters: float) -> None:
    with torch.device("meta"):
        model = VisionTransformer(VARIANTS[variant])
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(n_parameters, rel=0.02)


def test_vit_b_16_is_the_papers() -> None:
    """86.6 M parameters with three channels and 1000 classes; fewer with one channel."""
    config = replace(VARIANTS["vit_b_16"], input_height=224, input_width=224, n_classes=1000)
    with torch.device("meta"):
        model = VisionTransformer(config)
    n_missing_channels = 2 * 16 * 16 * 768
    assert sum(p.numel() for p in model.parameters()) == 86_567_656 - n_missing_channels


@pytest.mark.parametrize("stem", ["linear", "residual"])
@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_shapes(stem: str, pool: str) -> None:
    model = VisionTransformer(replace(TINY, stem=stem, pool=pool))  # type: ignore[arg-type]
    x = torch.randn(3, 1, 128, 144)
    assert model.embed(x).shape == (3, 72, 32)
    assert model.pool(model.embed(x)).shape == (3, 32)
    assert model(x).shape == (3, 16)
    assert model(x).dtype == torch.float32


def test_a_window_does_not_see_its_batch_mates() -> None:
    model = tiny_model()
    x = torch.randn(6, 1, 128, 144)
    with torch.inference_mode():
        together = model(x)
        alone = torch.cat([model(window[None]) for window in x])
        shuffled = model(x[torch.tensor([3, 1, 0, 5, 4, 2])])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(shuffled[0], together[3], rtol=0, atol=1e-5)


def test_the_answer_is_the_mean_of_both_heads() -> None:
    model = tiny_model()
    x = torch.randn(2, 1, 128, 144)
    assert model.statistics is not None
    with torch.inference_mode():
        tokens_only = model.head_logits(model.pool(model.embed(x)))
        torch.testing.assert_close(model(x), (tokens_only + model.statistics(x)) / 2)
        bare = VisionTransformer(replace(TINY, statistics=0)).eval()
        assert bare.statistics is None
        assert len(bare.logits_per_head(x, bare.pool(bare.embed(x)))) == 1


def test_position_matters() -> None:
    model = tiny_model()
    x = torch.randn(1, 1, 128, 144)
    with torch.inference_mode():
        assert not torch.allclose(model(x), model(x.flip(-1)), atol=1e-3)


@pytest.mark.parametrize(
    "bad",
    [
        {"input_height": 120},
        {"heads": 5},
        {"depth": -1},
        {"stem": "patch"},
        {"pool": "max"},
        {"patch_size": 12, "input_height": 120},
        {"statistics": -1},
        {"statistics": 8, "input_width": 64},
        {"statistics": 8, "input_height": 144},
    ],
)
def test_impossible_architectures_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"multiple|positive|known are|power-of-two"):
        VitConfig(**bad)  # type: ignore[arg-type]


def test_gradient_checkpointing_changes_memory_and_no_number() -> None:
    model = VisionTransformer(TINY).train()
    x = torch.randn(2, 1, 128, 144)

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        torch.manual_seed(0)
        model(x).square().sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain = gradients()
    model.gradient_checkpointing = True
    saved = gradients()
    assert len(plain) == len(saved) > 10
    for a, b in zip(plain, saved, strict=True):
        torch.testing.assert_close(a, b)
