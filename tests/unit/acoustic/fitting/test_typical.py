"""What is usual on calibration tracks: few of them are beyond a limit, half beyond a median."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic.fitting.tracks import Tracks
from acoustic.fitting.typical import MIN_CONFUSED, UNUSUAL_RATIOS, find_confusions, with_limits
from acoustic.postprocess.calibration import WindowCalibration
from acoustic.postprocess.uncertainty import segment_disagreement, training_distance, unlike_music
from tests.support.properties import quick
from tests.support.tracks import made_tracks

PLAIN = WindowCalibration(temperature=1.3)


def varied(with_distances: bool) -> Tracks:
    """Tracks whose windows differ, so that they disagree."""
    rng = np.random.default_rng(5)
    tracks = made_tracks(400)
    logits = [each + rng.normal(0, 1.5, each.shape).astype(np.float32) for each in tracks.logits[3]]
    distances = {3: rng.gamma(4, 0.05, 400).astype(np.float32)} if with_distances else {}
    music = {3: rng.normal(5, 2, 400).astype(np.float32)}
    return replace(tracks, logits={3: logits}, distances=distances, music=music)


@pytest.mark.parametrize("with_distances", [False, True])
def test_the_stated_share_of_tracks_is_beyond_each_limit(with_distances: bool) -> None:
    tracks = varied(with_distances)
    fitted = with_limits(PLAIN, tracks, 3)
    found = {
        "segment_disagreement": [segment_disagreement(x, 1.3) for x in tracks.logits[3]],
        "distance": [
            training_distance(x, tracks.distance(3, i), fitted)
            for i, x in enumerate(tracks.logits[3])
        ],
        "not_music": [unlike_music(float(x), fitted) for x in tracks.music[3]],
    }
    for name, ratio in UNUSUAL_RATIOS.items():
        beyond = np.mean(np.array(found[name], float) > fitted.limits[name])
        assert beyond == pytest.approx(ratio, abs=0.006)  # two of 400 tracks
    assert set(fitted.scales) == {
        "energy",
        "not_music",
        *(["neighbours"] if with_distances else []),
    }


def test_a_weighted_track_counts_like_as_many_tracks() -> None:
    tracks = varied(with_distances=True)
    weights = np.where(np.arange(400) < 100, 2.0, 1.0)
    twice = tracks.take(np.ones(400, bool))
    order = np.concatenate([np.arange(400), np.arange(100)])
    repeated = replace(
        twice,
        logits={3: [tracks.logits[3][i] for i in order]},
        distances={3: tracks.distances[3][order]},
        music={3: tracks.music[3][order]},
    )
    weighted = with_limits(PLAIN, tracks, 3, weights)
    counted = with_limits(PLAIN, repeated, 3, np.ones(500))
    assert (weighted.scales, weighted.limits) == (counted.scales, counted.limits)


def test_scales_are_the_median_and_the_95th_percentile() -> None:
    tracks = varied(with_distances=True)
    fitted = with_limits(PLAIN, tracks, 3)
    assert fitted.scales["neighbours"] == pytest.approx(
        np.percentile(tracks.distances[3], (50, 95)), abs=1e-5
    )
    assert (fitted.temperature, fitted.quantiles) == (1.3, {})


@quick
@given(
    pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60),
)
def test_a_confusion_is_a_share_of_the_answers_of_a_genre(pairs: list[tuple[int, int]]) -> None:
    predicted, labels = np.array(pairs, np.int64).T
    found = find_confusions(predicted, labels, "abcd")
    counts, answers = Counter(pairs), Counter(predicted.tolist())
    expected = {
        ("abcd"[answer], "abcd"[true]): n / answers[answer]
        for (answer, true), n in counts.items()
        if answer != true and n >= MIN_CONFUSED
    }
    flat = {(a, t): share for a, row in found.items() for t, share in row.items()}
    assert flat == pytest.approx(expected, abs=5e-5)
    assert all(row for row in found.values())
