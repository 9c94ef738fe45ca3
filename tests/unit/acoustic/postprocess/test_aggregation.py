"""Aggregation of windows against its definitions: means of probabilities, of logits, and votes."""

from __future__ import annotations

from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import softmax

from acoustic.postprocess.aggregation import Aggregation, aggregate
from tests.support.properties import quick

METHODS: tuple[Aggregation, ...] = get_args(Aggregation)
logits_arrays = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 10), st.integers(2, 6)),
    elements=st.floats(-20, 20, width=32),
)
temperatures = st.floats(0.2, 5)
floors = st.floats(0, 0.5)


@quick
@given(logits=logits_arrays, temperature=temperatures, floor=floors)
def test_the_mean_probability_is_the_mean_of_the_windows(
    logits: npt.NDArray[np.float32], temperature: float, floor: float
) -> None:
    windows = softmax(logits.astype(float) / temperature, axis=1)
    expected = (1 - floor) * windows.mean(axis=0) + floor / logits.shape[1]
    np.testing.assert_allclose(
        aggregate(logits, temperature, "mean_probability", floor), expected, atol=1e-12
    )


@quick
@given(logits=logits_arrays, temperature=temperatures)
def test_the_mean_logit_is_the_geometric_mean_of_the_windows(
    logits: npt.NDArray[np.float32], temperature: float
) -> None:
    """A product of experts: the S-th root of the product of the windows' probabilities."""
    windows = softmax(logits.astype(float) / temperature, axis=1)
    product = np.exp(np.log(windows).mean(axis=0))
    expected = product / product.sum()
    np.testing.assert_allclose(aggregate(logits, temperature, "mean_logit"), expected, atol=1e-9)


@quick
@given(logits=logits_arrays)
def test_a_vote_is_the_share_of_windows(logits: npt.NDArray[np.float32]) -> None:
    windows = softmax(logits.astype(float), axis=1)
    shares = np.bincount(windows.argmax(axis=1), minlength=logits.shape[1]) / len(logits)
    found = aggregate(logits, 1.0, "vote")
    np.testing.assert_allclose(found, shares, atol=2e-6)
    assert shares[found.argmax()] == shares.max()


def test_equal_votes_are_ordered_by_the_mean_probability() -> None:
    logits = np.array([[3, 0, 0], [0, 1, 0]], np.float32)
    assert aggregate(logits, 1.0, "vote").argmax() == 0
    assert aggregate(logits[:, [1, 0, 2]], 1.0, "vote").argmax() == 1


@pytest.mark.parametrize("method", METHODS)
@quick
@given(logits=logits_arrays, floor=floors)
def test_one_window_repeated_is_that_window(
    method: Aggregation, logits: npt.NDArray[np.float32], floor: float
) -> None:
    once, often = logits[:1], np.repeat(logits[:1], 7, axis=0)
    np.testing.assert_allclose(
        aggregate(often, 1.0, method, floor), aggregate(once, 1.0, method, floor), atol=1e-12
    )


@pytest.mark.parametrize("method", ["mean_probability", "mean_logit"])
@quick
@given(logits=logits_arrays, floor=floors)
def test_no_genre_falls_below_its_share_of_the_floor(
    method: Aggregation, logits: npt.NDArray[np.float32], floor: float
) -> None:
    found = aggregate(logits, 1.0, method, floor)
    assert found.min() >= floor / logits.shape[1] - 1e-12


@given(logits=logits_arrays, temperature=temperatures, method=st.sampled_from(METHODS))
def test_a_track_is_a_distribution(
    logits: npt.NDArray[np.float32], temperature: float, method: Aggregation
) -> None:
    probabilities = aggregate(logits, temperature, method)
    assert probabilities.shape == (logits.shape[1],)
    assert probabilities.sum() == pytest.approx(1.0, abs=1e-9)
    assert (probabilities >= 0).all()


@given(
    logits=logits_arrays,
    temperature=temperatures,
    method=st.sampled_from(METHODS),
    seed=st.integers(0, 99),
)
def test_the_order_of_the_windows_does_not_matter(
    logits: npt.NDArray[np.float32], temperature: float, method: Aggregation, seed: int
) -> None:
    shuffled = np.random.default_rng(seed).permutation(logits)
    np.testing.assert_array_equal(
        aggregate(logits, temperature, method),
        aggregate(shuffled, temperature, method),
    )


def test_an_unknown_aggregation_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown aggregation"):
        aggregate(np.zeros((1, 2), np.float32), 1.0, "median")  # type: ignore[arg-type]
