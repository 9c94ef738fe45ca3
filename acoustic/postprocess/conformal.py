"""Prediction sets with a stated coverage.

A set has all genres whose non-conformity is at most q, a quantile of the true genres'
non-conformity on held-out tracks. With tracks that are exchangeable with those, the set has the
true genre with the stated probability; q has the finite-sample correction (n + 1) / n.

    lac    1 − p: the smallest sets on average; Sadinle, Lei and Wasserman, Least Ambiguous
           Set-Valued Classifiers (2019)
    aps    probability of the genres down to this one: larger sets, a coverage that differs less
           between easy and hard tracks; Romano, Sesia and Candès, Classification with Valid and
           Adaptive Coverage (2020), without the randomisation, so that one file has one answer
    raps   aps with a penalty on long sets; Angelopoulos et al., Uncertainty Sets for Image
           Classifiers using Conformal Prediction (2021)

Shapes: K tracks, C classes.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from acoustic.postprocess.calibration import Probabilities

SetMethod = Literal["lac", "aps", "raps"]
SET_METHODS: tuple[SetMethod, ...] = get_args(SetMethod)

COVERAGES = tuple(round(0.5 + 0.01 * i, 2) for i in range(50))
"""Coverages whose quantiles are stored: 0.50 to 0.99."""

RAPS_PENALTY = 0.05
RAPS_FREE_RANKS = 3
"""Every genre after these costs the penalty."""

ROUNDING = 1e-9


def nonconformity(probabilities: Probabilities, method: SetMethod) -> npt.NDArray[np.float64]:
    """(K, C) how ill each genre fits: 0 fits best.

    Args:
        probabilities: (K, C) calibrated.
        method: see the module.
    """
    if method == "lac":
        return 1 - probabilities
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranks = np.argsort(order, axis=1, kind="stable")
    cumulative = np.take_along_axis(probabilities, order, axis=1).cumsum(axis=1)
    scores = np.take_along_axis(cumulative, ranks, axis=1)
    if method == "raps":
        scores = scores + RAPS_PENALTY * np.maximum(ranks + 1 - RAPS_FREE_RANKS, 0)
    return np.asarray(scores)


def true_scores(
    probabilities: Probabilities, labels: npt.NDArray[np.int64], method: SetMethod
) -> npt.NDArray[np.float64]:
    """(K,) non-conformity of the true genres."""
    return np.asarray(nonconformity(probabilities, method)[np.arange(len(labels)), labels])


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
    rank = _rank(len(scores), coverage)
    if rank > len(scores):
        raise ValueError(f"{len(scores)} tracks cannot support a coverage of {coverage:g}")
    return float(np.sort(scores)[rank - 1])


def fit_quantiles(scores: npt.NDArray[np.float64]) -> dict[str, float]:
    """Coverage ("0.90") → quantile, for every stored coverage that the tracks support."""
    supported = [c for c in COVERAGES if _rank(len(scores), c) <= len(scores)]
    # rounded up: rounding down would leave out the very track that the quantile stands for
    return {f"{c:.2f}": math.ceil(conformal_quantile(scores, c) * 1e4) / 1e4 for c in supported}


def prediction_sets(
    probabilities: Probabilities, quantile: float, method: SetMethod = "lac"
) -> npt.NDArray[np.bool_]:
    """(K, C) membership; the most probable genre is always in, so no set is empty."""
    members = nonconformity(probabilities, method) <= quantile + ROUNDING
    members[np.arange(len(members)), probabilities.argmax(axis=1)] = True
    return np.asarray(members)


def _rank(n_tracks: int, coverage: float) -> int:
    return math.ceil((n_tracks + 1) * coverage - ROUNDING)
