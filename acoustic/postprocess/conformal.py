"""Prediction sets with a stated coverage.

LAC: the set of all genres whose probability is at least 1 − q, where q is a quantile of
1 − p(true genre) on held-out tracks. With exchangeable tracks the set has the true genre with
the stated probability; q has the finite-sample correction (n + 1) / n.

Source: Sadinle, Lei and Wasserman, Least Ambiguous Set-Valued Classifiers (2019).
Shapes: K tracks, C classes.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from acoustic.postprocess.calibration import Probabilities

COVERAGES = tuple(round(0.5 + 0.01 * i, 2) for i in range(50))
"""Coverages whose quantiles are stored: 0.50 to 0.99."""


def lac_scores(
    probabilities: Probabilities, labels: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """(K,) non-conformity of the true genres: 1 − p."""
    return 1 - probabilities[np.arange(len(labels)), labels]


def conformal_quantile(scores: npt.NDArray[np.float64], coverage: float) -> float:
    """The score that a set must admit to reach a coverage.

    Args:
        scores: (K,) of held-out tracks.
        coverage: wanted, in (0, 1).

    Raises:
        ValueError: K tracks are too few for that coverage.

    >>> conformal_quantile(np.arange(1, 10) / 10, 0.8)
    0.8
    """
    rank = math.ceil((len(scores) + 1) * coverage - 1e-9)
    if rank > len(scores):
        raise ValueError(f"{len(scores)} tracks cannot support a coverage of {coverage:g}")
    return float(np.sort(scores)[rank - 1])


def fit_quantiles(scores: npt.NDArray[np.float64]) -> dict[str, float]:
    """Coverage ("0.90") → quantile, for every stored coverage that the tracks support."""
    supported = [c for c in COVERAGES if math.ceil((len(scores) + 1) * c - 1e-9) <= len(scores)]
    # rounded up: rounding down would leave out the very track that the quantile stands for
    return {f"{c:.2f}": math.ceil(conformal_quantile(scores, c) * 1e4) / 1e4 for c in supported}


def prediction_sets(probabilities: Probabilities, quantile: float) -> npt.NDArray[np.bool_]:
    """(K, C) membership; the most probable genre is always in, so no set is empty."""
    members = probabilities >= 1 - quantile - 1e-12
    members[np.arange(len(members)), probabilities.argmax(axis=1)] = True
    return members
