"""The fit of calibration.json: what it stores, what it reads from, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from acoustic.errors import ConfigError
from acoustic.fitting.calibrate import (
    CalibrationConfig,
    apply_calibration,
    cross_fit,
    fit_calibration,
)
from acoustic.fitting.intervals import group_folds
from acoustic.fitting.scores import negative_log_likelihood
from acoustic.fitting.temperature import fit_floor, track_probabilities
from acoustic.postprocess.conformal import SET_METHODS
from tests.support.tracks import made_tracks

NAMES = ("a", "b", "c", "d")


def test_the_fit_states_what_it_rests_on() -> None:
    tracks = replace(made_tracks(60), sources=np.array(["y", "x"] * 30))
    fitted = fit_calibration(tracks, "digest", NAMES, CalibrationConfig(review_accuracy=0.7))
    assert (fitted.n_tracks, fitted.checkpoint_digest) == (60, "digest")
    assert fitted.dataset == "valid clips of x, y"
    assert fitted.groups == sorted({f"g{i}" for i in range(15)})
    assert (fitted.review_accuracy, fitted.floor) == (0.7, 0.0)
    assert set(fitted.windows) == {1, 3, 10}
    for window in fitted.windows.values():
        assert set(window.quantiles) == set(SET_METHODS)
        assert list(window.confidence_deciles) == sorted(window.confidence_deciles)
        assert len(window.confidence_deciles) == 9


def test_the_stored_likelihood_is_the_one_after_the_fit() -> None:
    tracks = made_tracks(100, temperature=2.0)
    fitted = fit_calibration(tracks, "", NAMES, CalibrationConfig()).at(3)
    after = track_probabilities(tracks.logits[3], fitted.temperature)
    before = track_probabilities(tracks.logits[3], 1.0)
    stored = negative_log_likelihood(after, tracks.labels)
    assert fitted.nll == pytest.approx(stored, abs=1e-4)
    assert stored < negative_log_likelihood(before, tracks.labels)


def test_a_floor_is_fitted_where_it_is_wanted() -> None:
    tracks = made_tracks(400)
    rng = np.random.default_rng(1)
    wrong = rng.random(400) < 0.3
    labels = np.where(wrong, rng.integers(4, size=400), tracks.labels)
    noisy = replace(tracks, labels=labels)
    fitted = fit_calibration(noisy, "", NAMES, CalibrationConfig(with_floor=True))
    floors = [
        fit_floor(track_probabilities(logits, fitted.windows[n].temperature), labels)
        for n, logits in noisy.logits.items()
    ]
    assert fitted.floor == pytest.approx(np.mean(floors), abs=1e-4)
    assert fitted.floor > 0.01
    assert fit_calibration(noisy, "", NAMES, CalibrationConfig()).floor == 0


@pytest.mark.parametrize("method", SET_METHODS)
def test_the_stored_quantile_covers_its_own_tracks(method: str) -> None:
    tracks = made_tracks(200)
    fitted = fit_calibration(tracks, "", NAMES, CalibrationConfig())
    found = apply_calibration(tracks, fitted, 10, 0.9, method)  # type: ignore[arg-type]
    assert 0.9 <= found.sets[np.arange(200), tracks.labels].mean() <= 1.0
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)


def test_without_a_threshold_only_certain_answers_are_accepted() -> None:
    tracks = made_tracks(60)
    fitted = fit_calibration(tracks, "", NAMES, CalibrationConfig())
    windows = {n: replace(each, review_threshold=None) for n, each in fitted.windows.items()}
    assert not apply_calibration(tracks, replace(fitted, windows=windows), 1, 0.9).accepted.any()


def test_cross_fitting_calibrates_each_fold_with_the_others() -> None:
    tracks = made_tracks(120)
    found = cross_fit(tracks, 3, 0.9, CalibrationConfig())
    folds = group_folds(tracks, seed=0)
    for number in np.unique(folds):
        inside = folds == number
        fitted = fit_calibration(tracks.take(~inside), "", NAMES, CalibrationConfig())
        expected = apply_calibration(tracks.take(inside), fitted, 3, 0.9)
        part = found.take(inside)
        np.testing.assert_array_equal(part.probabilities, expected.probabilities)
        np.testing.assert_array_equal(part.sets, expected.sets)
        np.testing.assert_array_equal(part.accepted, expected.accepted)


@pytest.mark.parametrize("accuracy", [0.0, -0.1, 1.1])
def test_an_accuracy_outside_its_limits_is_refused(accuracy: float) -> None:
    with pytest.raises(ValueError, match="review accuracy is"):
        CalibrationConfig(review_accuracy=accuracy)


def test_too_few_tracks_are_named_with_the_limit() -> None:
    with pytest.raises(ConfigError, match="19 valid tracks are too few: 20 are needed"):
        fit_calibration(made_tracks(19), "", NAMES, CalibrationConfig())
