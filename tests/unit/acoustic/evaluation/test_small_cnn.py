"""The small CNN: shapes, its three steps, and windows that do not see each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from acoustic.classify.normalise import Scaling
from acoustic.evaluation.small_cnn import CNN_CHANNELS, SmallCnn, small_cnn
from tests.support.clips import BEATS, NOTES, clip


@pytest.fixture(scope="module")
def model() -> SmallCnn:
    torch.manual_seed(0)
    return SmallCnn(5).eval()


@torch.inference_mode()
def test_four_poolings_leave_a_sixteenth_of_each_axis(model: SmallCnn) -> None:
    x = torch.randn(2, 1, 64, 48)
    tokens = model.embed(x)
    assert tokens.shape == (2, 4 * 3, CNN_CHANNELS[-1])
    assert model.pool(tokens).shape == (2, CNN_CHANNELS[-1])
    assert model(x).shape == (2, 5)


@torch.inference_mode()
def test_the_three_steps_are_the_forward_pass(model: SmallCnn) -> None:
    x = torch.randn(2, 1, 64, 48)
    (logits,) = model.logits_per_head(x, model.pool(model.embed(x)))
    torch.testing.assert_close(logits, model(x))
    order = torch.randperm(12)
    torch.testing.assert_close(model.pool(model.embed(x)[:, order]), model.pool(model.embed(x)))


@torch.inference_mode()
def test_a_window_is_answered_alone_as_in_a_batch(model: SmallCnn) -> None:
    x = torch.randn(4, 1, 64, 48)
    together = model(x)
    for i in range(4):
        torch.testing.assert_close(model(x[i : i + 1])[0], together[i], atol=1e-5, rtol=1e-5)


def test_the_same_clips_give_the_same_answers() -> None:
    train = [clip(label, seed) for label in (BEATS, NOTES) for seed in range(3)]
    valid = [clip(BEATS, 50, "valid"), clip(NOTES, 51, "valid")]
    found = [
        small_cnn(
            train,
            valid,
            n_classes=8,
            n_frames=32,
            scaling=Scaling(),
            n_crops=48,
            n_windows=1,
        )
        for _ in range(2)
    ]
    assert found[0].shape == (2,)
    np.testing.assert_array_equal(found[0], found[1])
