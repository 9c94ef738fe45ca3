"""Measures of uncertainty against scipy and against their definitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import jensenshannon
from scipy.special import logsumexp
from scipy.stats import entropy as reference_entropy

from acoustic.postprocess.calibration import WindowCalibration, softmax
from acoustic.postprocess.uncertainty import (
    SOFTENING,
    energy,
    entropy,
    inverse_margin,
    measure_uncertainty,
    normalised_entropy,
    segment_disagreement,
    training_distance,
    variation_ratio,
)
from acoustic.prediction import Uncertainty
from tests.support.properties import quick

logits_arrays = hnp.arrays(
    np.float32,
    st.tuples(st.integers(2, 8), st.integers(2, 5)),
    elements=st.floats(-20, 20, width=32),
)


@quick
@given(logits=logits_arrays)
def test_entropy_and_energy_are_those_of_scipy(logits: npt.NDArray[np.float32]) -> None:
    probabilities = softmax(logits)
    np.testing.assert_allclose(
        entropy(probabilities), reference_entropy(probabilities, axis=1), atol=1e-12
    )
    normalised = reference_entropy(probabilities[0], base=logits.shape[1])
    assert normalised_entropy(probabilities[0]) == pytest.approx(normalised, abs=1e-9)
    expected = -logsumexp(logits.astype(float), axis=1).mean()
    assert energy(logits) == pytest.approx(expected, abs=1e-6)


def test_energy_does_not_overflow() -> None:
    assert energy(np.array([[3e4, 0.0]], np.float32)) == pytest.approx(-3e4)
    assert energy(np.array([[-3e4, -3e4]], np.float32)) == pytest.approx(3e4 - np.log(2))


@quick
@given(logits=logits_arrays, temperature=st.floats(0.3, 3))
def test_disagreement_is_the_best_cut_by_weighted_divergence(
    logits: npt.NDArray[np.float32], temperature: float
) -> None:
    windows = softmax(logits.astype(float) / (SOFTENING * temperature))
    n = len(windows)
    cuts = []
    for k in range(1, n):
        first, rest = windows[:k].mean(axis=0), windows[k:].mean(axis=0)
        parts = k * reference_entropy(first, base=2) + (n - k) * reference_entropy(rest, base=2)
        cuts.append(reference_entropy(windows.mean(axis=0), base=2) - parts / n)
    assert segment_disagreement(logits, temperature) == pytest.approx(max(cuts), abs=1e-9)


@quick
@given(logits=logits_arrays)
def test_disagreement_of_two_windows_is_their_jensen_shannon_divergence(
    logits: npt.NDArray[np.float32],
) -> None:
    first, second = softmax(logits[:2] / SOFTENING)
    expected = jensenshannon(first, second, base=2) ** 2 if not np.allclose(first, second) else 0.0
    assert segment_disagreement(logits[:2], 1.0) == pytest.approx(expected, abs=1e-6)


@quick
@given(logits=logits_arrays)
def test_time_reversed_is_the_same_disagreement(logits: npt.NDArray[np.float32]) -> None:
    assert segment_disagreement(logits[::-1], 1.0) == pytest.approx(
        segment_disagreement(logits, 1.0), abs=1e-9
    )


@quick
@given(logits=logits_arrays)
def test_variation_ratio_counts_the_windows_that_are_outvoted(
    logits: npt.NDArray[np.float32],
) -> None:
    winners = logits.argmax(axis=1).tolist()
    most = max(winners.count(winner) for winner in winners)
    assert variation_ratio(logits) == pytest.approx((len(winners) - most) / len(winners))


@quick
@given(logits=logits_arrays)
def test_the_margin_is_the_gap_between_the_two_best(logits: npt.NDArray[np.float32]) -> None:
    probabilities = softmax(logits)[0]
    best, second = sorted(probabilities.tolist(), reverse=True)[:2]
    assert inverse_margin(probabilities) == pytest.approx(1 - best + second)


def fitted(**scales: tuple[float, float]) -> WindowCalibration:
    return WindowCalibration(temperature=1.0, scales=scales)


@quick
@given(
    a=st.floats(-1e6, 1e6), b=st.floats(-1e6, 1e6), median=st.floats(-5, 5), spread=st.floats(0, 5)
)
def test_a_larger_distance_is_never_rated_closer(
    a: float, b: float, median: float, spread: float
) -> None:
    near, far = sorted((a, b))
    scale, flat = fitted(neighbours=(median, median + spread)), np.zeros((1, 2), np.float32)
    low, high = (training_distance(flat, each, scale) for each in (near, far))
    assert low is not None
    assert high is not None
    assert 0 <= low <= high <= 1
    assert training_distance(flat, median, scale) == pytest.approx(0.5)


def test_the_distance_is_the_larger_of_what_has_a_scale() -> None:
    logits = np.zeros((1, 2), np.float32)  # energy −log 2
    both = fitted(neighbours=(0.2, 0.4), energy=(-2.0, -np.log(2)))
    assert training_distance(logits, 0.2, both) == pytest.approx(0.95)
    assert training_distance(logits, 0.2, fitted(neighbours=(0.2, 0.4))) == pytest.approx(0.5)
    assert training_distance(logits, None, fitted(neighbours=(0.2, 0.4))) is None
    assert training_distance(logits, 0.2, fitted()) is None


FITTED = WindowCalibration(
    temperature=1.0,
    scales={"neighbours": (0.2, 0.4), "energy": (-5.0, -3.0), "not_music": (-5.0, 0.0)},
)


@given(logits=logits_arrays)
def test_uncertainty_is_within_zero_and_one(logits: npt.NDArray[np.float32]) -> None:
    probabilities = softmax(logits).mean(axis=0)
    uncertainty = measure_uncertainty(probabilities, logits, 0.3, -1.0, FITTED)
    for name in Uncertainty.__slots__:
        assert 0 <= getattr(uncertainty, name) <= 1


def test_extremes_of_uncertainty() -> None:
    certain, uniform = np.array([1.0, 0, 0, 0]), np.full(4, 0.25)
    assert normalised_entropy(certain) == 0
    assert normalised_entropy(uniform) == pytest.approx(1)
    assert inverse_margin(certain) == 0
    assert inverse_margin(uniform) == 1
    assert variation_ratio(np.eye(4, dtype=np.float32)) == 0.75
    assert variation_ratio(np.ones((5, 1), np.float32) * [1, 2, 0]) == 0


def test_disagreement_is_one_for_two_certain_halves_and_none_within_one_genre() -> None:
    jazz, rock = np.array([50.0, 0, 0]), np.array([0, 50.0, 0])
    assert segment_disagreement(np.stack([jazz] * 5 + [rock] * 5), 1.0) == pytest.approx(1)
    assert segment_disagreement(np.stack([jazz] * 10), 1.0) == pytest.approx(0, abs=1e-9)
    assert segment_disagreement(jazz[None], 1.0) == 0
    alternating = segment_disagreement(np.stack([jazz, rock] * 5), 1.0)
    assert 0 < alternating < 0.3  # no point in time separates the two genres


def test_the_distance_is_read_on_the_scale_of_the_calibration_tracks() -> None:
    usual = np.full((1, 4), 5.0 - np.log(4), np.float32)
    assert energy(usual) == pytest.approx(-5)
    assert training_distance(usual, 0.2, FITTED) == pytest.approx(0.5)
    assert training_distance(usual, 0.4, FITTED) == pytest.approx(0.95)
    strange = np.full((1, 4), 3.0 - np.log(4), np.float32)
    assert training_distance(strange, 0.2, FITTED) == pytest.approx(0.95)
    assert training_distance(usual, None, FITTED) == pytest.approx(0.5)
    assert training_distance(usual, 0.2, replace(FITTED, scales={})) is None
