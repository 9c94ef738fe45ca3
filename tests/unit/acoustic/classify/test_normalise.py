"""Conversion of uint8 windows to the model's input."""

from __future__ import annotations

import pytest
import torch

from acoustic.classify.normalise import Scaling


def windows() -> torch.Tensor:
    return torch.randint(0, 256, (4, 40, 224), dtype=torch.uint8)


def test_standard_is_decibels_in_deviations() -> None:
    x = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    scaled = Scaling(mean_db=-40, std_db=20).apply(x)
    torch.testing.assert_close(scaled.flatten(), torch.tensor([-2.0, 2.0]))


def test_min_max_fills_zero_to_one_per_window() -> None:
    scaled = Scaling(kind="min_max").apply(windows() // 2 + 20)
    torch.testing.assert_close(scaled.amin(dim=(1, 2, 3)), torch.zeros(4))
    torch.testing.assert_close(scaled.amax(dim=(1, 2, 3)), torch.ones(4))


def test_a_flat_window_is_finite() -> None:
    assert torch.isfinite(Scaling(kind="min_max").apply(torch.zeros(1, 8, 8).byte())).all()


def test_the_guides_geometry_is_resized_to_a_square() -> None:
    scaling = Scaling(kind="min_max", resize_to=(224, 224))
    assert scaling.apply(windows()).shape == (4, 1, 224, 224)


@pytest.mark.parametrize("kind", ["standard", "min_max"])
def test_regrouping_changes_nothing(kind: str) -> None:
    scaling, x = Scaling(kind=kind, resize_to=(64, 64)), windows()  # type: ignore[arg-type]
    alone = torch.cat([scaling.apply(window[None]) for window in x])
    torch.testing.assert_close(scaling.apply(x), alone, rtol=0, atol=0)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="known are standard and min_max"):
        Scaling(kind="pcen")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive"):
        Scaling(std_db=0)
