"""Fit temperature, probability floor and review threshold on held-out tracks.

Shapes: K tracks, S windows of one track, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from acoustic.fitting.scores import negative_log_likelihood
from acoustic.postprocess.calibration import Logits, Probabilities, calibrated_probabilities

TEMPERATURE_BOUNDS = (0.05, 20.0)


MIN_FITTED = 20
"""Fewest tracks that a review threshold is fitted on."""


Weights = npt.NDArray[np.float64]


def fit_temperature(
    logits: Sequence[Logits], labels: npt.NDArray[np.int64], weights: Weights | None = None
) -> float:
    """Fit the temperature that minimises the NLL of window-averaged probabilities.

    Args:
        logits: logits of K tracks, each (S, C).
        labels: (K,) true class indices.
        weights: (K,) how much each track counts, alike if None.

    Returns:
        T within TEMPERATURE_BOUNDS.
    """
    from scipy.optimize import minimize_scalar  # only fitting needs it; serving does not

    # Searched over log T, where halving and doubling are steps of equal size.
    low, high = np.log(TEMPERATURE_BOUNDS)
    result = minimize_scalar(
        lambda log_t: negative_log_likelihood(
            track_probabilities(logits, float(np.exp(log_t))), labels, weights
        ),
        bounds=(low, high),
        method="bounded",
    )
    return float(np.exp(result.x))


def fit_floor(
    probabilities: Probabilities, labels: npt.NDArray[np.int64], weights: Weights | None = None
) -> float:
    """Fit the probability floor, in [0, 0.5], that minimises the NLL of (K, C) probabilities."""
    from scipy.optimize import minimize_scalar

    n_classes = probabilities.shape[1]
    result = minimize_scalar(
        lambda floor: negative_log_likelihood(
            (1 - floor) * probabilities + floor / n_classes, labels, weights
        ),
        bounds=(0.0, 0.5),
        method="bounded",
    )
    return float(result.x)


def review_threshold(
    confidence: npt.NDArray[np.float64],
    correct: npt.NDArray[np.bool_],
    target: float,
    weights: Weights | None = None,
) -> float:
    """Fit the lowest confidence from which unreviewed answers are expected to reach an accuracy.

    The accuracy at a confidence is a logistic curve, as in Platt (1999): counts of the few most
    confident tracks alone would move the threshold by tenths from one sample to the next.

    Args:
        confidence: (K,) probability of each answer, on held-out tracks.
        correct: (K,) whether each answer is right.
        target: accuracy wanted among the answers that nobody reviews, in (0, 1].
        weights: (K,) how much each track counts, alike if None.

    Returns:
        A confidence; 1, so that every track is reviewed, if there are fewer than MIN_FITTED tracks
        or not even the most confident one is expected to reach the target.
    """
    if len(confidence) < MIN_FITTED:
        return 1.0
    counts = np.ones(len(confidence)) if weights is None else weights
    accuracy = _accuracy_at(confidence, correct, counts)
    # expected[k]: of the k + 1 most confident answers. The last that reaches the target leaves the
    # fewest answers to review.
    order = np.argsort(-confidence, kind="stable")
    expected = np.cumsum((accuracy * counts)[order]) / np.cumsum(counts[order])
    reached = expected >= target
    # a threshold accepts all tracks of its confidence: only the last of equal ones can be it
    ordered = confidence[order]
    reached[:-1] &= ordered[:-1] != ordered[1:]
    if not reached.any():
        return 1.0
    return float(ordered[np.flatnonzero(reached)[-1]])


def _accuracy_at(
    confidence: npt.NDArray[np.float64],
    correct: npt.NDArray[np.bool_],
    weights: Weights,
) -> npt.NDArray[np.float64]:
    """(K,) expected accuracy at each confidence: a weighted logistic regression on its log-odds.

    A normal prior of unit variance on offset 0 and slope 1, confidences that are right as they
    stand, keeps the curve finite where all answers are right or all are wrong.
    """
    from scipy.optimize import minimize
    from scipy.special import expit, logit

    log_odds = logit(np.clip(confidence, 1e-6, 1 - 1e-6))

    def loss(curve: npt.NDArray[np.float64]) -> float:
        scores = curve[0] + curve[1] * log_odds
        misfit = weights @ (np.logaddexp(0, scores) - correct * scores)
        return float(misfit + (curve[0] ** 2 + (curve[1] - 1) ** 2) / 2)

    offset, slope = minimize(loss, np.array([0.0, 1.0]), method="BFGS").x
    return np.asarray(expit(offset + max(slope, 0.0) * log_odds), np.float64)


def track_probabilities(
    logits: Sequence[Logits], temperature: float, floor: float = 0.0
) -> Probabilities:
    """(K, C) calibrated probabilities of K tracks, averaged over their windows."""
    return np.stack([calibrated_probabilities(x, temperature, floor).mean(axis=0) for x in logits])
