"""Validation: windows as in serving, and the mean of their probabilities decides."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from acoustic.classify.normalise import Scaling
from acoustic.data.windows import cut_windows
from acoustic.training.validate import clip_logits, validation_accuracy
from tests.support.clips import BEATS, N_FRAMES, NEITHER, NOTES, clip
from tests.support.models import tiny_model


class Scripted:
    """A model that answers each call with the next rows of logits."""

    config = SimpleNamespace(input_width=N_FRAMES)

    def __init__(self, *answers: list[list[float]]) -> None:
        self._answers = iter(answers)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        rows = torch.tensor(next(self._answers))
        assert len(rows) == len(x)
        return rows


def accuracy(model: object, labels: list[int], n_windows: int = 3) -> float:
    clips = [clip(label, seed) for seed, label in enumerate(labels)]
    return validation_accuracy(
        model,  # type: ignore[arg-type]
        Scaling(),
        clips,
        device="cpu",
        precision="fp32",
        n_windows=n_windows,
    )


def test_every_clip_is_cut_as_in_serving() -> None:
    clips = [clip(BEATS, 1), clip(NOTES, 2)]
    seen = clip_logits(lambda windows: windows.astype(np.float32), clips, N_FRAMES, 4)
    for found, made in zip(seen, clips, strict=True):
        np.testing.assert_array_equal(found, cut_windows(made.log_mel, N_FRAMES, 4))


def test_one_certain_window_does_not_outvote_two_that_are_almost_certain() -> None:
    """By the mean of the logits genre 0 would win, by the mean probability genre 1 does."""
    rows = [[50.0, 0.0], [0.0, 5.0], [0.0, 5.0]]
    assert accuracy(Scripted(rows), [1]) == 1.0
    assert accuracy(Scripted(rows), [0]) == 0.0


@pytest.mark.parametrize("n_right", [0, 1, 3])
def test_the_accuracy_is_the_share_of_right_clips(n_right: int) -> None:
    right, wrong = [[1.0, 0.0]], [[0.0, 1.0]]
    answers = [right] * n_right + [wrong] * (3 - n_right)
    assert accuracy(Scripted(*answers), [0, 0, 0], n_windows=1) == pytest.approx(n_right / 3)


def test_the_model_sees_the_scaled_windows() -> None:
    model = tiny_model()
    labels = [BEATS, NOTES, NEITHER]
    clips = [clip(label, seed) for seed, label in enumerate(labels)]
    expected = []
    with torch.inference_mode():
        for each in clips:
            windows = torch.from_numpy(cut_windows(each.log_mel, N_FRAMES, 3))
            probabilities = model(Scaling().apply(windows)).softmax(dim=1).mean(dim=0)
            expected.append(int(probabilities.argmax()) == each.label)
    assert accuracy(model, labels) == pytest.approx(np.mean(expected))
