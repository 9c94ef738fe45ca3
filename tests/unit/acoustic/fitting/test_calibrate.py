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
from acoustic.fitting.intervals import group_folds, leave_one_out_folds
from acoustic.fitting.scores import negative_log_likelihood
from acoustic.fitting.temperature import fit_floor, track_probabilities
from acoustic.labels import Label, LabelSet
from acoustic.postprocess.conformal import SET_METHODS
from acoustic.postprocess.families import family_probabilities
from tests.support.tracks import made_tracks

LABELS = LabelSet([Label(name=name) for name in "abcd"])


def test_the_fit_states_what_it_rests_on() -> None:
    tracks = replace(made_tracks(60), sources=np.array(["y", "x"] * 30))
    fitted = fit_calibration(tracks, "digest", LABELS, CalibrationConfig(review_accuracy=0.7))
    assert (fitted.n_tracks, fitted.checkpoint_digest) == (60, "digest")
    assert fitted.dataset == "60 valid tracks: x, y"
    assert fitted.n_collections == 0
    assert fitted.groups == sorted({f"g{i}" for i in range(15)})
    assert (fitted.review_accuracy, fitted.floor) == (0.7, 0.0)
    assert set(fitted.windows) == {1, 3, 10}
    for window in fitted.windows.values():
        assert set(window.quantiles) == set(SET_METHODS)
        assert list(window.confidence_deciles) == sorted(window.confidence_deciles)
        assert len(window.confidence_deciles) == 9


def test_the_stored_likelihood_is_the_one_after_the_fit() -> None:
    tracks = made_tracks(100, temperature=2.0)
    fitted = fit_calibration(tracks, "", LABELS, CalibrationConfig()).at(3)
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
    fitted = fit_calibration(noisy, "", LABELS, CalibrationConfig(with_floor=True))
    floors = [
        fit_floor(track_probabilities(logits, fitted.windows[n].temperature), labels)
        for n, logits in noisy.logits.items()
    ]
    assert fitted.floor == pytest.approx(np.mean(floors), abs=1e-4)
    assert fitted.floor > 0.01
    assert fit_calibration(noisy, "", LABELS, CalibrationConfig()).floor == 0


@pytest.mark.parametrize("method", SET_METHODS)
def test_the_stored_quantile_covers_its_own_tracks(method: str) -> None:
    tracks = made_tracks(200)
    fitted = fit_calibration(tracks, "", LABELS, CalibrationConfig())
    found = apply_calibration(tracks, LABELS, fitted, 10, 0.9, method)  # type: ignore[arg-type]
    assert 0.9 <= found.sets[np.arange(200), tracks.labels].mean() <= 1.0
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)


def test_without_a_threshold_only_certain_answers_are_accepted() -> None:
    tracks = made_tracks(60)
    fitted = fit_calibration(tracks, "", LABELS, CalibrationConfig())
    windows = {n: replace(each, review_threshold=None) for n, each in fitted.windows.items()}
    assert not apply_calibration(
        tracks, LABELS, replace(fitted, windows=windows), 1, 0.9
    ).accepted.any()


def test_cross_fitting_calibrates_each_fold_with_the_others() -> None:
    tracks = made_tracks(120)
    found = cross_fit(tracks, LABELS, 3, 0.9, CalibrationConfig())
    folds = group_folds(tracks, seed=0)
    for number in np.unique(folds):
        inside = folds == number
        fitted = fit_calibration(tracks.take(~inside), "", LABELS, CalibrationConfig())
        expected = apply_calibration(tracks.take(inside), LABELS, fitted, 3, 0.9)
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
        fit_calibration(made_tracks(19), "", LABELS, CalibrationConfig())


def test_the_fit_finds_the_temperature_and_what_follows_from_it() -> None:
    tracks = made_tracks(1500, temperature=2.0)
    fitted = fit_calibration(tracks, "digest", LABELS, CalibrationConfig(review_accuracy=0.8))
    assert fitted.at(10).temperature == pytest.approx(2.0, rel=0.1)
    fresh = made_tracks(3000, temperature=2.0, seed=1)
    found = apply_calibration(fresh, LABELS, fitted, 10, 0.9)
    hit = found.sets[np.arange(3000), fresh.labels]
    correct = found.probabilities.argmax(axis=1) == fresh.labels
    assert hit.mean() == pytest.approx(0.9, abs=0.03)
    assert correct[found.accepted].mean() == pytest.approx(0.8, abs=0.03)


def test_cross_fitting_lets_no_track_calibrate_itself() -> None:
    tracks = made_tracks(200, temperature=1.0)
    plain = cross_fit(tracks, LABELS, 10, 0.9, CalibrationConfig())
    flipped_group = tracks.groups == "g0"
    labels = np.where(flipped_group, (tracks.labels + 1) % 4, tracks.labels)
    changed = replace(tracks, labels=labels)
    again = cross_fit(changed, LABELS, 10, 0.9, CalibrationConfig())
    np.testing.assert_array_equal(
        again.probabilities[flipped_group], plain.probabilities[flipped_group]
    )
    assert not np.array_equal(again.probabilities, plain.probabilities)


def test_a_repeat_neither_calibrates_its_twin_nor_counts_twice() -> None:
    """Track 5 is the same recording as track 0, in another group."""
    tracks = made_tracks(200, temperature=1.0)
    recordings = tracks.recordings.copy()
    recordings[5] = recordings[0]
    twins = replace(tracks, recordings=recordings)
    unique = np.arange(200) != 5
    plain = cross_fit(twins, LABELS, 10, 0.9, CalibrationConfig(), unique)
    labels = twins.labels.copy()
    labels[0] = (labels[0] + 1) % 4
    again = cross_fit(replace(twins, labels=labels), LABELS, 10, 0.9, CalibrationConfig(), unique)
    np.testing.assert_array_equal(again.probabilities[:8], plain.probabilities[:8])
    assert not np.array_equal(again.probabilities, plain.probabilities)
    labels = twins.labels.copy()
    labels[5] = (labels[5] + 1) % 4
    unheard = cross_fit(replace(twins, labels=labels), LABELS, 10, 0.9, CalibrationConfig(), unique)
    np.testing.assert_array_equal(unheard.probabilities, plain.probabilities)


def test_one_group_cannot_be_cross_fitted() -> None:
    tracks = made_tracks(40, temperature=1.0)
    one = replace(tracks, groups=np.full(40, "g"))
    with pytest.raises(ConfigError, match="all valid tracks are of one group"):
        cross_fit(one, LABELS, 10, 0.9, CalibrationConfig())
    two = replace(tracks, groups=np.array(["a", "b"] * 20))
    assert len(cross_fit(two, LABELS, 10, 0.5, CalibrationConfig()).accepted) == 40


def test_a_coverage_that_the_tracks_do_not_support_is_refused() -> None:
    fitted = fit_calibration(made_tracks(30), "digest", LABELS, CalibrationConfig())
    with pytest.raises(ConfigError, match=r"on 30 tracks does not support a coverage of 0\.99"):
        apply_calibration(made_tracks(30), LABELS, fitted, 10, 0.99)


def test_where_there_are_enough_unseen_collections_only_they_are_fitted_on() -> None:
    tracks = made_tracks(160, temperature=1.0, is_unseen=True)
    flags = np.arange(160) < 80  # ten collections
    mixed = replace(tracks, unseen=flags)
    fitted = fit_calibration(mixed, "", LABELS, CalibrationConfig())
    alone = fit_calibration(tracks.take(flags), "", LABELS, CalibrationConfig())
    assert fitted.windows == alone.windows
    assert (fitted.n_tracks, fitted.n_collections) == (80, 10)
    assert fitted.dataset == "80 valid tracks of 10 collections not trained on: made"
    assert fitted.groups == sorted(set(tracks.groups))  # none of them can test the fit
    few = replace(tracks, unseen=np.arange(160) < 32)  # four collections
    assert fit_calibration(few, "", LABELS, CalibrationConfig()).n_tracks == 160


def test_a_library_of_ones_own_has_prediction_sets_for_tracks_like_it() -> None:
    tracks = made_tracks(160, temperature=1.0, is_unseen=True)
    own = replace(tracks, collections=np.full(160, "mine"))
    fitted = fit_calibration(own, "d", LABELS, CalibrationConfig())
    assert fitted.n_collections == 0
    for window in fitted.windows.values():
        assert window.quantile("lac", 0.9) is not None


def test_every_unseen_collection_counts_the_same() -> None:
    """One overconfident collection of 400 tracks among ten of 40 does not set the temperature."""
    small, large = (
        made_tracks(400, temperature=t, per_collection=n, is_unseen=True, seed=seed)
        for t, n, seed in ((1.0, 40, 0), (4.0, 400, 1))
    )
    joined = replace(
        small,
        **{
            name: np.concatenate([getattr(small, name), getattr(large, name)])
            for name in ("labels", "sources", "groups", "unseen", "recordings")
        },
        collections=np.concatenate([small.collections, np.full(400, "large")]),
        logits={n: [*small.logits[n], *large.logits[n]] for n in small.logits},
    )
    by_collection = fit_calibration(joined, "", LABELS, CalibrationConfig()).at(10).temperature
    seen = replace(joined, unseen=np.zeros(800, bool))
    by_track = fit_calibration(seen, "", LABELS, CalibrationConfig()).at(10).temperature
    assert 1.0 < by_collection < 1.5 < by_track


def test_cross_fitting_keeps_an_unseen_collection_in_one_fold() -> None:
    tracks = made_tracks(120, is_unseen=True)
    folds = group_folds(tracks, seed=0)
    for name in set(tracks.collections):
        assert len(set(folds[tracks.collections == name])) == 1
    alone = leave_one_out_folds(tracks)
    assert len(set(alone)) == tracks.n_collections
    assert len(set(zip(alone, tracks.collections, strict=True))) == tracks.n_collections


def test_a_family_is_as_reliable_as_an_answer_without_review() -> None:
    labels = LabelSet([Label(name=n, parent=f) for n, f in zip("abcd", "xxyy", strict=True)])
    tracks = made_tracks(3000, temperature=3.0)
    fitted = fit_calibration(tracks, "", labels, CalibrationConfig(review_accuracy=0.8))
    fresh = made_tracks(6000, temperature=3.0, seed=1)
    found = apply_calibration(fresh, labels, fitted, 10, 0.9)
    shown = ~found.accepted & found.families
    of_families, family = family_probabilities(found.probabilities, labels)
    right = of_families.argmax(axis=1) == family[fresh.labels]
    assert 0.1 < shown.mean() < 0.9
    assert right[shown].mean() == pytest.approx(0.8, abs=0.05)


def test_scores_of_unrelated_labels_are_put_on_one_scale() -> None:
    """One genre's usual score is far above another's: without the scale it is always the answer."""
    tracks = made_tracks(400)
    gains, shifts = np.array([1, 5, 0.2, 2])[: len(LABELS)], np.array([0, 40, -3, 8])[: len(LABELS)]
    skewed = replace(
        tracks,
        logits={
            n: [(x * gains + shifts).astype(np.float32) for x in v]
            for n, v in tracks.logits.items()
        },
    )
    plain = CalibrationConfig()
    scaled = CalibrationConfig(standardise=True)
    found = {
        name: fit_calibration(skewed, "", LABELS, config).at(3).nll
        for name, config in (("plain", plain), ("scaled", scaled))
    }
    reference = fit_calibration(tracks, "", LABELS, scaled).at(3).nll
    assert found["scaled"] == pytest.approx(reference, abs=0.02)
    assert found["plain"] > found["scaled"] + 0.2
    fitted = fit_calibration(skewed, "", LABELS, scaled)
    crossed = cross_fit(skewed, LABELS, 3, 0.9, scaled)
    truth = skewed.labels
    assert crossed.sets[np.arange(len(truth)), truth].mean() == pytest.approx(0.9, abs=0.06)
    assert len(fitted.means) == len(LABELS)
