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


MIN_ACCEPTED = 20
"""Minimum sample size for an accuracy estimate, tracks."""


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
    """Fit the lowest confidence from which unreviewed answers reach the wanted accuracy.

    Args:
        confidence: (K,) probability of each answer, on held-out tracks.
        correct: (K,) whether each answer is right.
        target: accuracy wanted among the answers that nobody reviews, in (0, 1].
        weights: (K,) how much each track counts in the accuracy, alike if None.

    Returns:
        A confidence; 1 if no MIN_ACCEPTED or more of the most confident tracks reach the target,
        so that every track is reviewed.
    """
    # reached[k]: whether the k + 1 most confident answers have the accuracy. The last such k leaves
    # the fewest answers to review, even if a smaller k misses the target.
    order = np.argsort(-confidence, kind="stable")
    counts = np.ones(len(order)) if weights is None else weights[order]
    reached = np.cumsum(correct[order] * counts) / np.cumsum(counts) >= target
    reached[: MIN_ACCEPTED - 1] = False
    # a threshold accepts all tracks of its confidence: only the last of equal ones can be it
    ordered = confidence[order]
    reached[:-1] &= ordered[:-1] != ordered[1:]
    if not reached.any():
        return 1.0
    return float(confidence[order][np.flatnonzero(reached)[-1]])


def track_probabilities(
    logits: Sequence[Logits], temperature: float, floor: float = 0.0
) -> Probabilities:
    """(K, C) calibrated probabilities of K tracks, averaged over their windows."""
    return np.stack([calibrated_probabilities(x, temperature, floor).mean(axis=0) for x in logits])
