"""Measures of tracks against scikit-learn, and effort auto against its two extremes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics as reference

from acoustic.evaluation.measure import (
    AGGREGATIONS,
    AUTO_MARGINS,
    measure,
    measure_auto,
    measure_calibration,
    measure_outliers,
    measure_windows,
    own_genres,
)
from acoustic.fitting import intervals
from acoustic.fitting.calibrate import (
    Calibrated,
)
from acoustic.fitting.tracks import Tracks
from acoustic.labels import GENRES, Label, LabelSet
from acoustic.postprocess.calibration import Calibration, WindowCalibration
from acoustic.postprocess.families import family_probabilities
from tests.support.tracks import made_tracks

NAMES = LabelSet(
    [Label(name=n, parent=p) for n, p in (("a", "x"), ("b", "x"), ("c", None), ("d", None))]
)

CALIBRATION = Calibration(
    windows={n: WindowCalibration(temperature=1.0) for n in (3, 10)},
    checkpoint_digest="",
    dataset="",
    n_tracks=1,
    date="",
)


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "N_BOOTSTRAP", 40)
    monkeypatch.setattr("acoustic.evaluation.metrics.N_BOOTSTRAP", 40)


def calibrated(n: int = 120, seed: int = 0) -> tuple[Calibrated, np.ndarray]:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(4, 0.5), n)
    labels = np.array([rng.choice(4, p=row) for row in probabilities])
    sets = probabilities >= np.sort(probabilities, axis=1)[:, -2:-1]
    return Calibrated(
        probabilities=probabilities,
        sets=sets,
        accepted=probabilities.max(axis=1) > 0.6,
        families=probabilities.max(axis=1) > 0.4,
    ), labels


def test_the_measures_are_those_of_scikit_learn() -> None:
    made, labels = calibrated()
    predicted = made.probabilities.argmax(axis=1)
    report = measure(made, labels, NAMES)
    expected = {
        "accuracy": reference.accuracy_score(labels, predicted),
        "macro_f1": reference.f1_score(labels, predicted, average="macro"),
        "nll": reference.log_loss(labels, made.probabilities),
    }
    for name, value in expected.items():
        assert report[name]["value"] == pytest.approx(value, abs=1e-4)
        assert report[name]["low"] <= report[name]["value"] <= report[name]["high"]
    assert report["confusion"] == reference.confusion_matrix(labels, predicted).tolist()
    recalls = reference.recall_score(labels, predicted, average=None)
    for i, name in enumerate(NAMES.names):
        assert report["per_genre"][name]["recall"]["value"] == pytest.approx(recalls[i], abs=1e-4)
    assert set(report["per_family"]) == {"x"}
    hits = made.sets[np.arange(120), labels]
    assert report["prediction_sets"]["coverage"]["value"] == pytest.approx(hits.mean(), abs=1e-4)
    assert report["prediction_sets"]["size"]["value"] == 2.0


def test_what_is_undefined_is_null() -> None:
    """Without an error there is no AUROC of errors; without an accepted answer no accuracy."""
    probabilities = np.tile([0.7, 0.1, 0.1, 0.1], (30, 1))
    made = Calibrated(
        probabilities=probabilities,
        sets=probabilities > 0.5,
        accepted=np.zeros(30, bool),
        families=np.zeros(30, bool),
    )
    selective = measure(made, np.zeros(30, np.int64), NAMES)["selective"]
    assert selective["error_auroc"] is None
    assert selective["accepted_accuracy"] is None
    assert (selective["accepted"], selective["aurc"]["value"]) == (0.0, 0.0)


def test_intervals_over_collections_are_wider_where_a_collection_is_right_or_wrong_together() -> (
    None
):
    right = np.repeat(np.arange(20) % 2, 10).astype(np.int64)  # 20 collections of 10 tracks
    made = apply_like(np.tile([0.1, 0.7, 0.1, 0.1], (200, 1)))
    names = np.repeat([f"c{i}" for i in range(20)], 10)
    by_track = measure(made, right, NAMES)
    by_collection = measure(made, right, NAMES, names)
    width = [
        each["accuracy"]["high"] - each["accuracy"]["low"] for each in (by_track, by_collection)
    ]
    assert width[1] > 2 * width[0]
    assert (by_track["n_collections"], by_collection["n_collections"]) == (None, 20)
    row = by_collection["per_genre"][NAMES.names[1]]
    assert (row["n"], row["n_collections"]) == (100, 10)


def test_family_answers_are_counted_where_they_are_shown() -> None:
    made, labels = calibrated()
    found = measure(made, labels, NAMES)["families"]
    of_families, family = family_probabilities(made.probabilities, NAMES)
    sizes = np.bincount(family)[of_families.argmax(axis=1)]
    shown = ~made.accepted & made.families & (sizes > 1)
    right = of_families.argmax(axis=1) == family[labels]
    assert found["shown"] == pytest.approx(shown.mean(), abs=1e-4)
    assert found["accuracy"]["value"] == pytest.approx(right[shown].mean(), abs=1e-4)


def test_only_genres_of_the_data_are_answered_where_others_cannot_occur() -> None:
    probabilities = np.array([[0.2, 0.3, 0.5], [0.4, 0.1, 0.5]])
    found = own_genres(probabilities, np.array([1, 0]))
    assert (found["n_genres"], found["accuracy"]["value"]) == (2, 1.0)


def test_the_bins_of_the_diagram_hold_every_track_once() -> None:
    made, labels = calibrated()
    found = measure_calibration(made.probabilities, labels)
    sizes = [each["n"] for each in found["bins"]]
    assert sum(sizes) == 120
    gaps = [abs(b["accuracy"] - b["confidence"]) * b["n"] / 120 for b in found["bins"]]
    assert found["adaptive_ece"] == pytest.approx(sum(gaps), abs=1e-3)
    confidences = [each["confidence"] for each in found["bins"]]
    assert confidences == sorted(confidences)


def noisy_tracks() -> Tracks:
    rng = np.random.default_rng(2)
    tracks = made_tracks(80)
    ten = [x + rng.normal(0, 2, x.shape).astype(np.float32) for x in tracks.logits[10]]
    return replace(tracks, logits={3: [x[[1, 5, 8]] for x in ten], 10: ten})


def test_auto_lies_between_one_round_and_all_windows() -> None:
    tracks = noisy_tracks()
    rows = measure_auto(tracks, CALIBRATION)
    assert [row["margin"] for row in rows] == list(AUTO_MARGINS)
    windows = [row["windows"] for row in rows]
    assert windows == sorted(windows)
    assert (windows[0], windows[-1]) == (3.0, 10.0)
    plain = {
        row["windows"]: row["accuracy"]
        for row in measure_windows(tracks, CALIBRATION)
        if row["aggregation"] == "mean_probability"
    }
    assert rows[0]["accuracy"] == plain[3]
    assert rows[-1]["accuracy"] == plain[10]


def test_every_number_of_windows_is_measured_with_every_aggregation() -> None:
    rows = measure_windows(made_tracks(20), CALIBRATION)
    found = [(row["windows"], row["aggregation"]) for row in rows]
    assert found == [(n, method) for n in (1, 3, 10) for method in AGGREGATIONS]
    assert len({row["accuracy"]["value"] for row in rows}) == 1  # all windows of a track are alike


def test_outliers_like_music_are_not_told_from_it() -> None:
    made, _ = calibrated(400)
    rows = measure_outliers(made.probabilities[:200], made.probabilities[200:], ["rain"] * 200)
    for row in rows:
        assert row["auroc"]["value"] == pytest.approx(0.5, abs=0.09)
        assert row["auroc"]["low"] < 0.5 < row["auroc"]["high"]


def test_siblings_are_one_family() -> None:
    hip_hop, rap, jazz = (GENRES.index(name) for name in ("Hip-Hop", "Rap", "Jazz"))
    labels = np.array([hip_hop, rap, jazz] * 10)
    probabilities = np.full((30, 16), 0.01)
    probabilities[np.arange(30), np.array([rap, hip_hop, hip_hop] * 10)] = 0.85
    found = apply_like(probabilities)
    report = measure(found, labels, GENRES)
    assert report["accuracy"]["value"] == 0
    assert report["family_accuracy"]["value"] == pytest.approx(2 / 3, abs=1e-4)
    assert set(report["per_genre"]) == {"Hip-Hop", "Rap", "Jazz"}
    assert set(report["per_family"]) == {"Hip-Hop & Rap", "Blues & Jazz"}
    assert report["per_family"]["Hip-Hop & Rap"]["merged_recall"]["value"] == 1.0
    assert report["per_family"]["Hip-Hop & Rap"]["recall"]["value"] == 0.0
    assert np.array(report["confusion"]).sum() == 30


def apply_like(probabilities: np.ndarray) -> Calibrated:
    return Calibrated(
        probabilities=probabilities,
        sets=probabilities > 0.5,
        accepted=np.ones(len(probabilities), bool),
        families=np.ones(len(probabilities), bool),
    )


def test_outliers_are_told_from_music_by_the_log_odds_of_the_model_too() -> None:
    same = np.full((30, 4), 0.25)
    of_music, of_others = np.linspace(1, 5, 30), np.linspace(-4, 0, 30)
    rows = measure_outliers(
        same, same, ["rain"] * 30, (of_music.astype(np.float32), of_others.astype(np.float32))
    )
    found = {row["score"]: row["auroc"]["value"] for row in rows if row["kind"] == "all"}
    assert found["log-odds of music"] == 1.0
    assert found["entropy"] == 0.5


def test_outliers_are_told_from_music_by_uncertainty() -> None:
    sure = np.full((50, 4), 0.01) + np.eye(4)[np.arange(50) % 4] * 0.96
    unsure = np.full((20, 4), 0.25)
    rows = measure_outliers(sure, unsure, ["speech"] * 10 + ["rain"] * 10)
    assert [r["kind"] for r in rows] == ["all"] * 2 + ["rain"] * 2 + ["speech"] * 2
    assert all(r["auroc"]["value"] == 1.0 for r in rows)
