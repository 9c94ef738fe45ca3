"""From uint8 windows to the model's input."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from scipy.signal import lfilter_zi

from acoustic.classify.pcen import BIAS, GAIN, POWER, QUIET, SMOOTHING, pcen
from acoustic.classify.scaling import Scaling


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


def test_the_seed_geometry_is_resized_to_a_square() -> None:
    scaling = Scaling(kind="min_max", resize_to=(224, 224))
    assert scaling.apply(windows()).shape == (4, 1, 224, 224)


@pytest.mark.parametrize("kind", ["standard", "min_max", "pcen"])
def test_regrouping_changes_nothing(kind: str) -> None:
    scaling, x = Scaling(kind=kind, resize_to=(64, 64)), windows()  # type: ignore[arg-type]
    alone = torch.cat([scaling.apply(window[None]) for window in x])
    torch.testing.assert_close(scaling.apply(x), alone, rtol=0, atol=0)


def test_pcen_equals_librosas(rng: np.random.Generator) -> None:
    """librosa starts its smoother at the first frame's level when it is told to."""
    windows_db = rng.uniform(-80, 0, (2, 16, 100)).astype(np.float32)
    found = pcen(torch.from_numpy(windows_db)).numpy()
    for window_db, mine in zip(windows_db, found, strict=True):
        power = 10 ** (window_db / 10)
        start = lfilter_zi([SMOOTHING], [1, SMOOTHING - 1]) * power[:, :1]
        theirs = librosa.pcen(
            power, b=SMOOTHING, gain=GAIN, bias=BIAS, power=POWER, eps=QUIET, zi=start
        )
        np.testing.assert_allclose(mine, theirs, atol=2e-4)


def test_pcen_fades_what_is_steady_and_keeps_what_begins() -> None:
    steady = torch.full((1, 1, 100), -10.0)
    faint = torch.full((1, 1, 100), -40.0)
    torch.testing.assert_close(pcen(steady)[..., -1], pcen(faint)[..., -1], rtol=0, atol=0.06)
    begins = torch.full((1, 1, 100), -60.0)
    begins[..., 60] = -10.0
    assert pcen(begins)[0, 0, 60] > 3 * pcen(steady)[0, 0, -1]


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown scaling"):
        Scaling(kind="log")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive"):
        Scaling(std_db=0)
