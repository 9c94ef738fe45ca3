"""Prediction sets: their coverage on exchangeable tracks, and their definition."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, kstest

from acoustic.postprocess.conformal import (
    SET_METHODS,
    SetMethod,
    conformal_quantile,
    fit_quantiles,
    nonconformity,
    prediction_sets,
    true_scores,
)
from acoustic.request import COVERAGES
from tests.support.properties import quick

seeds = st.integers(0, 10_000)


def exchangeable(
    n: int, rng: np.random.Generator, n_classes: int = 6
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Probabilities of a badly calibrated model with labels; rows are independent."""
    truth = rng.dirichlet(np.full(n_classes, 0.4), n)
    labels = (rng.random((n, 1)) > truth.cumsum(axis=1)[:, :-1]).sum(axis=1)
    stated = rng.dirichlet(np.ones(n_classes), n) * 0.3 + truth**3
    return stated / stated.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("method", SET_METHODS)
@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
def test_the_coverage_holds_for_a_bad_model_and_few_tracks(
    method: SetMethod, coverage: float
) -> None:
    """39 tracks calibrate, one is answered: the truth is in with at least the coverage."""
    rng, n, n_draws = np.random.default_rng(1), 39, 2000
    probabilities, labels = exchangeable((n + 1) * n_draws, rng)
    scores = true_scores(probabilities, labels, method).reshape(n_draws, n + 1)
    quantiles = np.array([conformal_quantile(row[:n], coverage) for row in scores])
    covered = float((scores[:, n] <= quantiles).mean())
    # Exactly ⌈(n + 1) c⌉ / (n + 1) for scores without ties; 4 σ of 2,000 draws.
    exact = math.ceil((n + 1) * coverage - 1e-9) / (n + 1)
    assert covered == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / n_draws))
    fresh, fresh_labels = exchangeable(500, rng)
    members = prediction_sets(fresh, float(quantiles.max()), method)
    inside = members[np.arange(500), fresh_labels]
    assert (inside >= (true_scores(fresh, fresh_labels, method) <= quantiles.max())).all()


def test_the_coverage_over_calibrations_has_the_known_distribution() -> None:
    """With uniform scores the coverage of one calibration is Beta(k, n + 1 − k) distributed."""
    rng, n, coverage = np.random.default_rng(2), 99, 0.9
    found = [conformal_quantile(rng.random(n), coverage) for _ in range(600)]
    k = round((n + 1) * coverage)
    assert kstest(found, beta(k, n + 1 - k).cdf).pvalue > 0.01


@quick
@given(seed=seeds, method=st.sampled_from(SET_METHODS), quantile=st.floats(0, 1.2))
def test_a_set_is_the_most_probable_genres(seed: int, method: SetMethod, quantile: float) -> None:
    probabilities, _ = exchangeable(20, np.random.default_rng(seed))
    members = prediction_sets(probabilities, quantile, method)
    assert members.any(axis=1).all()
    for row, chosen in zip(probabilities, members, strict=True):
        assert row[chosen].min() >= row[~chosen].max(initial=0.0)
    larger = prediction_sets(probabilities, quantile + 0.1, method)
    assert (larger >= members).all()


@quick
@given(seed=seeds, method=st.sampled_from(SET_METHODS))
def test_the_order_of_the_genres_does_not_matter(seed: int, method: SetMethod) -> None:
    rng = np.random.default_rng(seed)
    probabilities, _ = exchangeable(10, rng)
    order = rng.permutation(probabilities.shape[1])
    turned = nonconformity(probabilities[:, order], method)
    np.testing.assert_allclose(turned, nonconformity(probabilities, method)[:, order])


@quick
@given(seed=seeds, n=st.integers(1, 300))
def test_stored_quantiles_admit_the_track_that_defines_them(seed: int, n: int) -> None:
    scores = np.random.default_rng(seed).random(n)
    table = fit_quantiles(scores)
    for coverage in COVERAGES:
        stored = table.get(f"{coverage:.2f}")
        if coverage * (n + 1) > n + 1e-6:
            assert stored is None
        else:
            assert stored is not None
            exact = conformal_quantile(scores, coverage)
            assert exact <= stored <= exact + 1.001e-4
            assert (scores <= stored).mean() >= coverage


def test_tracks_of_equal_scores_are_all_admitted() -> None:
    assert conformal_quantile(np.full(50, 0.3), 0.9) == 0.3
    tied = np.full((1, 4), 0.25)
    assert prediction_sets(tied, 0.75, "lac").all()
