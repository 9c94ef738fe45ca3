"""Drift of confidences: none for those of the calibration, large for higher and lower ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from acoustic.postprocess.calibration import Calibration, WindowCalibration
from deployments.telemetry.drift import MIN_ANSWERS, ConfidenceDrift

DECILES = tuple(np.linspace(0.2, 0.9, 9).round(4))
CALIBRATION = Calibration(
    windows={3: WindowCalibration(temperature=1.0, confidence_deciles=DECILES)},
    checkpoint_digest="", dataset="", n_tracks=100, date="",
)  # fmt: skip


def drift_of(confidences: np.ndarray, calibration: Calibration = CALIBRATION) -> float | None:
    drift = ConfidenceDrift(calibration)
    for confidence in confidences:
        drift.add(float(confidence), 3)
    return drift.value()


def like_the_calibration(rng: np.random.Generator, n: int) -> np.ndarray:
    edges = np.array([0.0, *DECILES, 1.0])
    bins = rng.integers(0, 10, n)
    return rng.uniform(edges[bins], edges[bins + 1])


def test_the_calibrations_own_confidences_do_not_drift(rng: np.random.Generator) -> None:
    value = drift_of(like_the_calibration(rng, 1000))
    assert value is not None
    assert value < 0.03


def test_few_answers_say_nothing(rng: np.random.Generator) -> None:
    assert drift_of(like_the_calibration(rng, MIN_ANSWERS - 1)) is None
    assert drift_of(like_the_calibration(rng, MIN_ANSWERS)) is not None


@pytest.mark.parametrize("factor", [0.6, 1.6])
def test_less_sure_and_surer_answers_drift(rng: np.random.Generator, factor: float) -> None:
    value = drift_of(np.clip(like_the_calibration(rng, 1000) * factor, 0, 1))
    assert value is not None
    assert value > 0.25


def test_old_answers_are_forgotten(rng: np.random.Generator) -> None:
    drift = ConfidenceDrift(CALIBRATION, n_recent=400)
    for _ in range(400):
        drift.add(0.01, 3)
    before = drift.value()
    for confidence in like_the_calibration(rng, 400):
        drift.add(float(confidence), 3)
    after = drift.value()
    assert before is not None
    assert after is not None
    assert before > 1 > 0.06 > after


def test_a_calibration_without_deciles_has_no_drift(rng: np.random.Generator) -> None:
    bare = replace(CALIBRATION, windows={3: WindowCalibration(temperature=1.0)})
    assert drift_of(like_the_calibration(rng, 1000), bare) is None
