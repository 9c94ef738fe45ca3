"""Augmentation, checked against its physics: SNR, bands, slopes, masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from acoustic.training.augment import AugmentConfig, augment, mask, random_crop, renormalise
from tests.support.clips import N_FRAMES, OFF


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def crops(n: int = 8) -> torch.Tensor:
    return renormalise(-80 * torch.rand(n, 128, N_FRAMES, generator=generator()))


def test_nothing_switched_on_changes_nothing() -> None:
    torch.testing.assert_close(augment(crops(), OFF, generator()), crops(), atol=1e-3, rtol=0)


def test_noise_has_the_snr_that_was_asked_for() -> None:
    config = replace(OFF, noise_probability=1.0, noise_snr_db=(0.0, 0.0))
    signal = renormalise(torch.full((4, 128, N_FRAMES), -80.0).index_fill(1, torch.tensor([20]), 0))
    noisy = torch.pow(10, augment(signal, config, generator()) / 10)
    band = noisy[:, 20].sum(dim=1)
    rest = noisy.sum(dim=(1, 2)) - band
    torch.testing.assert_close(rest / band, torch.ones(4), atol=0.15, rtol=0)


def test_a_low_pass_empties_the_upper_bands_only() -> None:
    config = replace(OFF, low_pass_probability=1.0, low_pass_ratios=(0.5, 0.5))
    filtered = augment(crops(), config, generator())
    assert (filtered[:, 64:] == -80).all()
    assert (filtered[:, :64] > -80).float().mean() > 0.9


def test_tilt_is_a_straight_line_over_the_bands() -> None:
    flat = torch.full((1, 128, N_FRAMES), -40.0)
    tilted = augment(flat, replace(OFF, tilt_db=10.0), generator())[0, :, 0]
    steps = tilted.diff()
    torch.testing.assert_close(steps, steps[:1].expand_as(steps), atol=1e-3, rtol=0)
    assert steps[0].abs() > 0


def test_the_maximum_is_always_zero() -> None:
    strong = AugmentConfig(noise_probability=1.0, low_pass_probability=0.5)
    out = augment(crops(), strong, generator())
    torch.testing.assert_close(out.amax(dim=(1, 2)), torch.zeros(8))
    assert out.min() >= -80


def test_masks_cover_what_they_may_and_no_more() -> None:
    masked = mask(torch.ones(64, 128, N_FRAMES), 0.0, OFF, generator())
    share = (masked == 0).float().mean(dim=(1, 2))
    assert 0.05 < share.mean() < 0.4
    assert (masked == 0).all(dim=2).sum(dim=1).max() <= 2 * (128 * OFF.mask_band_ratio + 1)


def test_a_crop_without_stretch_is_a_piece_of_the_clip(rng: np.random.Generator) -> None:
    log_mel = rng.integers(0, 256, (128, 400)).astype(np.uint8)
    piece = (random_crop(log_mel, N_FRAMES, OFF, rng).numpy() + 80) * 255 / 80
    starts = [s for s in range(257) if np.allclose(piece, log_mel[:, s : s + N_FRAMES], atol=0.01)]
    assert len(starts) == 1


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_pitch_moves_a_band(factor: float, rng: np.random.Generator) -> None:
    log_mel = np.zeros((128, 400), np.uint8)
    log_mel[60] = 255
    config = replace(OFF, pitch_factors=(factor, factor))
    moved = int(random_crop(log_mel, N_FRAMES, config, rng).mean(dim=1).argmax())
    assert moved == pytest.approx(60 / factor, abs=1.5)


def test_recorded_noise_is_used_at_the_snr_that_was_asked_for() -> None:
    config = replace(OFF, noise_probability=1.0, noise_snr_db=(0.0, 0.0))
    signal = renormalise(
        torch.full((64, 128, N_FRAMES), -80.0).index_fill(1, torch.tensor([20]), 0)
    )
    recorded = torch.full((64, 128, N_FRAMES), -80.0).index_fill(1, torch.tensor([90]), 0)
    levels = augment(signal, config, generator(), recorded).mean(dim=2)
    is_recorded = levels[:, 90] > -3
    assert 0.3 < is_recorded.float().mean() < 0.7  # the others have synthetic noise
    torch.testing.assert_close(levels[is_recorded, 20], levels[is_recorded, 90], atol=0.1, rtol=0)


@pytest.mark.parametrize("weight", [0.25, -0.25])
def test_blur_levels_neighbouring_bands_and_below_zero_sharpens(weight: float) -> None:
    stripes = torch.zeros(2, 128, N_FRAMES)
    stripes[:, ::2] = -20.0
    blurred = augment(stripes, replace(OFF, blur=(weight, weight)), generator())
    contrast = blurred[:, 61] - blurred[:, 60]
    assert contrast.mean() == pytest.approx(20 * (1 - 2 * weight), abs=0.1)


def test_one_generator_is_one_result() -> None:
    strong = AugmentConfig(noise_probability=0.5, low_pass_probability=0.5)
    first, second = (augment(crops(), strong, generator()) for _ in range(2))
    assert torch.equal(first, second)


def test_the_equaliser_is_smooth_and_as_strong_as_asked_for() -> None:
    flat = torch.full((400, 128, N_FRAMES), -40.0)
    curves = augment(flat, replace(OFF, equaliser_db=2.0), generator())
    assert torch.equal(curves[:, :, 0], curves[:, :, 1])
    gains = curves[:, :, 0] - curves[:, :, 0].mean(dim=1, keepdim=True)
    expected_db = 2.0 * (6 / 2) ** 0.5  # six cosines, each of power 1/2
    assert gains.square().mean().sqrt() == pytest.approx(expected_db, rel=0.05)
    assert gains.diff(dim=1).abs().max() < 2.5
