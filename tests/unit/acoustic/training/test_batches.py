"""Batches: targets are distributions, mixing keeps the larger share, rare classes are balanced."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from acoustic.classify.normalise import Scaling
from acoustic.training.batches import BatchConfig, Batches
from tests.support.clips import N_FRAMES, OFF, clip

PLAIN = BatchConfig(batch_size=16, mixup_alpha=0.0, outlier_ratio=0.0, augment=OFF)


def batches(config: BatchConfig, counts: tuple[int, ...] = (2, 2), seed: int = 0) -> Batches:
    clips = [clip(12, 10 * label + i) for label, n in enumerate(counts) for i in range(n)]
    labels = [label for label, n in enumerate(counts) for _ in range(n)]
    return Batches(
        [replace(each, label=label) for each, label in zip(clips, labels, strict=True)],
        [],
        n_classes=len(counts),
        n_frames=N_FRAMES,
        scaling=Scaling(),
        config=config,
        seed=seed,
    )


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0])
def test_targets_are_distributions_over_at_most_two_genres(alpha: float) -> None:
    drawn = batches(replace(PLAIN, mixup_alpha=alpha), (3, 3, 3)).draw(0)
    assert drawn.x.shape == (16, 1, 128, N_FRAMES)
    torch.testing.assert_close(drawn.target.sum(dim=1), torch.ones(16))
    assert ((drawn.target > 0).sum(dim=1) <= (2 if alpha else 1)).all()
    assert (drawn.target.max(dim=1).values >= 0.5).all()


def test_mixing_weighs_crops_and_targets_alike() -> None:
    """The same draw without mixup gives the parts; each mixture is on the line between two."""
    plain = batches(PLAIN).draw(3)
    mixed = batches(replace(PLAIN, mixup_alpha=1.0)).draw(3)
    for i in range(16):
        own = plain.x[i].flatten()
        moved = mixed.x[i].flatten() - own
        towards = plain.x.flatten(1) - own
        share = (towards @ moved) / towards.square().sum(dim=1).clamp(min=1e-9)
        errors = (share[:, None] * towards - moved).abs().amax(dim=1)
        j = int(errors.argmin())
        assert errors[j] < 1e-4
        weight = float(share[j])
        assert -1e-5 <= weight <= 0.5 + 1e-5
        expected = (1 - weight) * plain.target[i] + weight * plain.target[j]
        torch.testing.assert_close(mixed.target[i], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("balance", "share"), [(1.0, 0.9), (0.5, 0.75), (0.0, 0.5)])
def test_a_class_of_n_clips_is_drawn_with_weight_n_to_the_balance(
    balance: float, share: float
) -> None:
    config = replace(PLAIN, batch_size=1500, balance=balance)
    made = batches(config, (18, 2))
    labels = made._crops(np.random.default_rng(0))[1].argmax(dim=1)
    assert float((labels == 0).float().mean()) == pytest.approx(share, abs=0.04)


def test_a_stream_may_start_anywhere_and_may_be_empty() -> None:
    made = batches(PLAIN)
    assert [batch.step for batch in made.stream(5, 7)] == [5, 6]
    (last,) = made.stream(6, 7)
    torch.testing.assert_close(last.x, made.draw(6).x, atol=0, rtol=0)
    assert last.seed == made.draw(6).seed != made.draw(7).seed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 1}, "batch_size is 1, must be at least 2"),
        ({"outlier_ratio": 1.0}, r"outlier_ratio is 1\.0, limits are 0 to below 1"),
        ({"outlier_ratio": -0.1}, r"outlier_ratio is -0\.1"),
    ],
)
def test_a_composition_that_cannot_work_is_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchConfig(**changes)  # type: ignore[arg-type]
