"""Fits of temperature, floor and review threshold against a search over a grid."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import log_loss

from acoustic.fitting.scores import adaptive_ece
from acoustic.fitting.temperature import (
    MIN_FITTED,
    TEMPERATURE_BOUNDS,
    fit_floor,
    fit_temperature,
    review_threshold,
    track_probabilities,
)
from acoustic.postprocess.calibration import calibrated_probabilities
from tests.support.properties import quick
from tests.support.tracks import made_tracks


def test_the_fitted_temperature_has_the_lowest_log_loss_of_a_grid() -> None:
    tracks = made_tracks(400, temperature=1.7, seed=3)
    logits = np.concatenate(tracks.logits[1])

    def loss(temperature: float) -> float:
        return float(log_loss(tracks.labels, softmax(logits / temperature, axis=1)))

    fitted = fit_temperature(tracks.logits[1], tracks.labels)
    best = min(np.geomspace(0.5, 5, 200), key=loss)
    assert fitted == pytest.approx(best, rel=0.02)
    assert loss(fitted) <= loss(best) + 1e-6


@pytest.mark.parametrize("scale", [0.25, 4.0])
def test_scaled_logits_scale_the_temperature(scale: float) -> None:
    tracks = made_tracks(300)
    scaled = [each * np.float32(scale) for each in tracks.logits[1]]
    plain = fit_temperature(tracks.logits[1], tracks.labels)
    assert fit_temperature(scaled, tracks.labels) == pytest.approx(scale * plain, rel=1e-2)


def test_a_model_that_is_always_right_or_wrong_ends_at_a_bound() -> None:
    logits = [np.array([[1.0, 0.0]], np.float32)] * 20
    low, high = TEMPERATURE_BOUNDS
    assert fit_temperature(logits, np.zeros(20, np.int64)) == pytest.approx(low, abs=0.05)
    assert fit_temperature(logits, np.ones(20, np.int64)) == pytest.approx(high, rel=0.01)


def test_the_fitted_floor_has_the_lowest_log_loss_of_a_grid(rng: np.random.Generator) -> None:
    truth = rng.dirichlet(np.ones(4), 500)
    labels = np.array([rng.choice(4, p=row) for row in truth])
    sharp = truth**4 / (truth**4).sum(axis=1, keepdims=True)
    grid = np.linspace(0, 0.5, 251)
    best = min(grid, key=lambda floor: log_loss(labels, (1 - floor) * sharp + floor / 4))
    assert fit_floor(sharp, labels) == pytest.approx(best, abs=0.005)


@quick
@given(seed=st.integers(0, 10_000), n=st.integers(1, 80), target=st.floats(0.3, 1.0))
def test_a_threshold_is_the_confidence_of_a_track_or_accepts_none(
    seed: int, n: int, target: float
) -> None:
    rng = np.random.default_rng(seed)
    confidence = rng.random(n)
    threshold = review_threshold(confidence, rng.random(n) < confidence, target)
    assert threshold == 1.0 or threshold in confidence
    if n < MIN_FITTED:
        assert threshold == 1.0
    stricter = review_threshold(confidence, np.zeros(n, bool), target)
    assert stricter == 1.0


def test_the_threshold_of_few_tracks_is_near_that_of_many() -> None:
    # exact confidences: above c, (1 + c) / 2 are right, so that 0.8 is reached from 0.6
    rng = np.random.default_rng(7)
    found = []
    for _ in range(60):
        confidence = rng.random(120)
        found.append(review_threshold(confidence, rng.random(120) < confidence, 0.8))
    assert np.median(found) == pytest.approx(0.6, abs=0.05)
    assert np.std(found) < 0.12


def test_a_track_that_counts_for_nothing_has_no_say(rng: np.random.Generator) -> None:
    confidence = rng.random(400)
    correct = rng.random(400) < confidence
    weights = np.where(np.arange(400) < 200, 1.0, 1e-9)
    wrong = correct.copy()
    wrong[200:] = False
    assert review_threshold(confidence, correct, 0.7, weights) == pytest.approx(
        review_threshold(confidence, wrong, 0.7, weights), abs=1e-9
    )


def test_tracks_are_averaged_over_their_windows() -> None:
    windows: list[npt.NDArray[np.float32]] = [
        np.array([[2.0, 0.0], [0.0, 2.0]], np.float32),
        np.array([[1.0, 0.0]], np.float32),
    ]
    found = track_probabilities(windows, 2.0, floor=0.2)
    expected = [softmax(w.astype(float) / 2, axis=1).mean(axis=0) for w in windows]
    np.testing.assert_allclose(found, 0.8 * np.stack(expected) + 0.1)


@pytest.mark.parametrize("true_temperature", [0.6, 1.0, 2.5])
def test_the_fit_finds_the_temperature_that_made_the_labels(
    true_temperature: float, rng: np.random.Generator
) -> None:
    logits = [rng.normal(0, 3, (1, 8)).astype(np.float32) for _ in range(4000)]
    labels = np.array(
        [rng.choice(8, p=calibrated_probabilities(x, true_temperature)[0]) for x in logits]
    )
    fitted = fit_temperature(logits, labels)
    assert fitted == pytest.approx(true_temperature, rel=0.1)
    assert adaptive_ece(track_probabilities(logits, fitted), labels) < 0.03
