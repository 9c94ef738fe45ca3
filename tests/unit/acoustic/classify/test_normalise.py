"""Conversion of uint8 windows to the model's input."""

from __future__ import annotations

import math

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


@pytest.mark.parametrize("kind", ["standard", "min_max", "log_magnitude"])
def test_regrouping_changes_nothing(kind: str) -> None:
    scaling, x = Scaling(kind=kind, resize_to=(64, 64), offset=0.001), windows()  # type: ignore[arg-type]
    alone = torch.cat([scaling.apply(window[None]) for window in x])
    torch.testing.assert_close(scaling.apply(x), alone, rtol=0, atol=0)


def test_log_magnitude_is_the_logarithm_with_the_loudest_value_at_its_peak() -> None:
    scaling = Scaling(kind="log_magnitude", peak=3.7, offset=0.001)
    levels = torch.tensor([[[255, 0, 255 * 3 // 4]]], dtype=torch.uint8)
    loud, quiet, between = scaling.apply(levels).flatten().tolist()
    assert loud == pytest.approx(math.log(math.exp(3.7) + 0.001))
    assert quiet == pytest.approx(math.log(math.exp(3.7) * 1e-4 + 0.001), abs=1e-5)  # −80 dB
    level_db = 255 * 3 // 4 * 80 / 255 - 80
    assert between == pytest.approx(3.7 + level_db * math.log(10) / 20, abs=1e-3)
    with pytest.raises(ValueError, match="offset is 0"):
        Scaling(kind="log_magnitude")


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="known are standard, min_max, log_magnitude"):
        Scaling(kind="pcen")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive"):
        Scaling(std_db=0)
