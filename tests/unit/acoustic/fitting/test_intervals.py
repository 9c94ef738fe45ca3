"""Bootstrap intervals cover what they promise; folds never divide a group or a recording."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from acoustic.data.groups import joined
from acoustic.errors import ConfigError
from acoustic.fitting import intervals
from acoustic.fitting.intervals import N_FOLDS, Interval, bootstrap, group_folds
from tests.support.properties import quick
from tests.support.tracks import made_tracks


def mean(values: np.ndarray) -> float:
    return float(values.mean())


def test_the_interval_covers_a_known_mean_95_times_in_100(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.setattr(intervals, "N_BOOTSTRAP", 200)
    n_runs = 250
    hits = 0
    for seed in range(n_runs):
        found = bootstrap(mean, rng.exponential(1.0, 100), seed=seed)
        hits += found.low <= 1.0 <= found.high
    # σ of 250 runs is 1.4 %; a skewed distribution costs the percentile interval about 1 %
    assert hits / n_runs == pytest.approx(0.945, abs=0.045)


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation(
    rng: np.random.Generator,
) -> None:
    values = rng.normal(3.0, 2.0, 500)
    found = bootstrap(mean, values)
    low, high = norm.interval(0.95, values.mean(), values.std() / np.sqrt(500))
    assert (found.low, found.high) == (pytest.approx(low, abs=0.03), pytest.approx(high, abs=0.03))
    assert found.value == values.mean()


def test_rows_of_several_arrays_are_drawn_together(rng: np.random.Generator) -> None:
    values = rng.normal(size=50)
    found = bootstrap(lambda a, b: float(np.abs(a + b).max()), values, -values)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_the_same_seed_draws_the_same_interval(rng: np.random.Generator) -> None:
    values = rng.normal(size=40)
    assert bootstrap(mean, values, seed=3) == bootstrap(mean, values, seed=3)
    assert bootstrap(mean, values, seed=3) != bootstrap(mean, values, seed=4)


def test_draws_without_a_value_are_left_out() -> None:
    """A ratio that is undefined in draws without a positive."""
    flags = np.array([True, False, False, False])
    found = bootstrap(lambda f: float(f.sum() / f.sum()) if f.any() else float("nan"), flags)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    undefined = bootstrap(lambda f: float("nan"), flags)
    assert np.isnan([undefined.value, undefined.low, undefined.high]).all()


def test_an_interval_is_written_with_its_limits() -> None:
    interval = Interval(0.123456, 0.1, 0.2)
    assert str(interval) == "0.123 (0.100–0.200)"
    assert interval.to_dict() == {"value": 0.1235, "low": 0.1, "high": 0.2}


@quick
@given(
    groups=st.lists(st.integers(0, 6), min_size=4, max_size=40),
    shared=st.lists(st.integers(0, 39), max_size=4),
    seed=st.integers(0, 99),
)
def test_a_fold_never_divides_a_group_or_a_recording(
    groups: list[int], shared: list[int], seed: int
) -> None:
    n = len(groups)
    recordings = [f"r{i}" for i in range(n)]
    for i in shared:
        recordings[i % n] = "the same in all data sets"
    tracks = replace(
        made_tracks(n),
        groups=np.array([f"g{g}" for g in groups]),
        recordings=np.array(recordings),
    )
    if len(set(joined(list(tracks.groups), list(tracks.recordings)))) == 1:
        with pytest.raises(ConfigError, match="all valid tracks are of one group"):
            group_folds(tracks, seed)
        return
    folds = group_folds(tracks, seed)
    for names in (tracks.groups, tracks.recordings):
        for name in np.unique(names):
            assert len(set(folds[names == name])) == 1
    assert 2 <= len(set(folds)) <= N_FOLDS
    assert sorted(set(folds)) == list(range(len(set(folds))))
    np.testing.assert_array_equal(folds, group_folds(tracks, seed))
