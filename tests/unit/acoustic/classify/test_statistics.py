"""Window statistics: against scipy and numpy, by physics, and independent of their batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.fft import dct

from acoustic.classify import rowwise
from acoustic.classify.statistics import (
    MIN_FRAMES,
    MODULATION_EDGES,
    N_CEPSTRA,
    N_STATISTICS,
    StatisticsHead,
    window_statistics,
)

N_MODULATIONS = len(MODULATION_EDGES) - 1
CONTRAST = slice(N_CEPSTRA + 32, N_CEPSTRA + 48)


def windows(n: int = 3, n_frames: int = 144) -> torch.Tensor:
    return torch.randn(n, 128, n_frames, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("n_frames", [MIN_FRAMES, 144, 240])
def test_against_scipy_and_numpy(n_frames: int) -> None:
    x = windows(n_frames=n_frames)
    found = window_statistics(x).numpy()
    assert found.shape == (3, N_STATISTICS)
    levels = x.numpy()
    cepstra = dct(levels, axis=1, norm="ortho")[:, 1:N_CEPSTRA]
    np.testing.assert_allclose(found[:, 1:N_CEPSTRA], cepstra.mean(axis=2), atol=1e-5)
    bands = levels.reshape(3, 32, 4, n_frames).mean(axis=2)
    np.testing.assert_allclose(found[:, N_CEPSTRA : N_CEPSTRA + 32], bands.mean(axis=2), atol=1e-5)
    groups = levels.reshape(3, 16, 8, n_frames)
    contrast = (groups.max(axis=2) - groups.min(axis=2)).mean(axis=2)
    np.testing.assert_allclose(found[:, CONTRAST], contrast, atol=1e-5)
    eighths = levels.reshape(3, 8, 16, n_frames).mean(axis=2)
    eighths = (eighths - eighths.mean(axis=2, keepdims=True)) * np.hanning(n_frames)
    spectrum = np.abs(np.fft.rfft(eighths, axis=2))
    slowest = np.log1p(spectrum[:, :, 1])
    first = N_STATISTICS - 9 * N_MODULATIONS
    eight = found[:, first : first + 8 * N_MODULATIONS].reshape(3, 8, N_MODULATIONS)
    np.testing.assert_allclose(eight[:, :, 0], slowest, atol=1e-4)


@pytest.mark.parametrize(("periods", "expected"), [(1, 0), (4, 3), (8, 5), (35, 9)])
def test_a_pulse_shows_at_its_rate(periods: int, expected: int) -> None:
    """The level of all bands has `periods` sine periods in the window."""
    frames = torch.arange(144) / 144
    x = torch.sin(2 * torch.pi * periods * frames).expand(1, 128, -1)
    of_groups = window_statistics(x)[0, -9 * N_MODULATIONS : -N_MODULATIONS]
    assert (of_groups.view(8, N_MODULATIONS).argmax(dim=1) == expected).all()


def test_lines_have_contrast_and_a_slope_has_little() -> None:
    lines = torch.zeros(1, 128, 144)
    lines[:, ::8] = 2.0
    slope = torch.linspace(0, 2, 128)[None, :, None].expand(1, -1, 144)
    assert (window_statistics(lines)[0, CONTRAST] == 2).all()
    assert (window_statistics(slope)[0, CONTRAST] < 0.2).all()


def test_a_silent_window_has_finite_numbers() -> None:
    assert window_statistics(torch.full((1, 128, 144), -3.0)).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_window_is_judged_alone_to_the_bit(dtype: torch.dtype) -> None:
    head = StatisticsHead(32, 5).eval().to(dtype)
    x = windows(9)[:, None].to(dtype)
    with torch.inference_mode():
        together = head(x)
        assert together.dtype == torch.float32
        for n in (1, 2, 5):
            assert torch.equal(head(x[:n]), together[:n])


def test_the_head_learns_its_normalisation() -> None:
    """In eval mode, features of the train distribution have mean 0 and standard deviation 1."""
    torch.manual_seed(0)
    head = StatisticsHead(8, 2).train()
    x = windows(400)[:, None] * torch.linspace(0.5, 2, 400)[:, None, None, None]
    with torch.no_grad():
        for _ in range(1000):
            head(x[torch.randint(400, (12,))])
    normalised = rowwise.standardised(window_statistics(x[:, 0]), head.eval().norm)
    assert normalised.mean(dim=0).abs().max() < 0.2
    assert (normalised.std(dim=0) - 1).abs().max() < 0.2
