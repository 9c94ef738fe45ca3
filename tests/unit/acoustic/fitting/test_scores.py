"""Scores against scikit-learn and against their definitions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from acoustic.fitting.scores import adaptive_ece, negative_log_likelihood
from tests.support.properties import quick


def drawn(seed: int, n: int, n_classes: int) -> tuple[npt.NDArray[np.float64], npt.NDArray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(n_classes), n), rng.integers(n_classes, size=n)


@quick
@given(seed=st.integers(0, 10_000), n=st.integers(1, 60), n_classes=st.integers(2, 8))
def test_the_likelihood_is_the_log_loss_of_scikit_learn(seed: int, n: int, n_classes: int) -> None:
    probabilities, labels = drawn(seed, n, n_classes)
    expected = log_loss(labels, probabilities, labels=range(n_classes))
    assert negative_log_likelihood(probabilities, labels) == pytest.approx(expected)


def test_an_impossible_label_has_a_finite_score() -> None:
    certain = np.array([[1.0, 0.0]])
    assert negative_log_likelihood(certain, np.array([0])) == 0
    assert negative_log_likelihood(certain, np.array([1])) == pytest.approx(-np.log(1e-12))


@quick
@given(seed=st.integers(0, 10_000), n=st.integers(1, 60), n_bins=st.integers(1, 12))
def test_the_calibration_error_is_the_weighted_gap_of_equal_bins(
    seed: int, n: int, n_bins: int
) -> None:
    probabilities, labels = drawn(seed, n, 3)
    confidence = probabilities.max(axis=1)
    pairs = sorted(zip(confidence, probabilities.argmax(axis=1) == labels, strict=True))
    sizes = [n // n_bins + (i < n % n_bins) for i in range(n_bins)]
    expected, first = 0.0, 0
    for size in sizes:
        chosen = pairs[first : first + size]
        first += size
        expected += abs(sum(hit for _, hit in chosen) - sum(c for c, _ in chosen)) / n
    found = adaptive_ece(probabilities, labels, n_bins)
    assert found == pytest.approx(expected, abs=1e-9)
    assert 0 <= found <= 1


def test_one_bin_is_the_gap_between_accuracy_and_mean_confidence() -> None:
    probabilities, labels = drawn(1, 200, 4)
    gap = (probabilities.argmax(axis=1) == labels).mean() - probabilities.max(axis=1).mean()
    assert adaptive_ece(probabilities, labels, 1) == pytest.approx(abs(gap))
    assert adaptive_ece(probabilities, labels, 10) >= abs(gap) - 1e-12
