"""Conformal prediction sets: the genres of a track, with a stated coverage.

A set contains all genres whose non-conformity is at most q, a quantile of the true genres'
non-conformity on held-out tracks. If tracks are exchangeable with those, the set contains the
true genre with the stated probability; q has the finite-sample correction (n + 1) / n. Fitted on
tracks of G collections that count the same each, the promise is for a track of a new collection
(Lee, Barber and Willett, Distribution-Free Inference with Hierarchical Data, 2023), and the
correction is (G + 1) / G.

    lac    1 − p: the smallest sets on average; Sadinle, Lei and Wasserman, Least Ambiguous
           Set-Valued Classifiers (2019)
    aps    probability of the genres down to this one: larger sets, a coverage that differs less
           between easy and hard tracks; Romano, Sesia and Candès, Classification with Valid and
           Adaptive Coverage (2020), without the randomisation, so that one file has one set
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
from acoustic.request import COVERAGES

SetMethod = Literal["lac", "aps", "raps"]
SET_METHODS: tuple[SetMethod, ...] = get_args(SetMethod)

RAPS_PENALTY = 0.05
RAPS_FREE_RANKS = 3
"""Number of leading ranks without a penalty; each further rank adds RAPS_PENALTY."""

# tolerance for floating-point error in comparisons and ranks
ROUNDING = 1e-9


def nonconformity(probabilities: Probabilities, method: SetMethod) -> npt.NDArray[np.float64]:
    """Non-conformity score of each genre, (K, C); lower fits better.

    Args:
        probabilities: (K, C) calibrated probabilities.
        method: score function; see the module docstring.
    """
    if method == "lac":
        return 1 - probabilities
    # ranks[k, c] is the place of genre c in track k, 0 = most probable: the inverse of order
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranks = np.argsort(order, axis=1, kind="stable")
    # aps score: the probability of genre c and of all more probable ones
    cumulative = np.take_along_axis(probabilities, order, axis=1).cumsum(axis=1)
    scores = np.take_along_axis(cumulative, ranks, axis=1)
    if method == "raps":
        scores = scores + RAPS_PENALTY * np.maximum(ranks + 1 - RAPS_FREE_RANKS, 0)
    return np.asarray(scores)


def true_scores(
    probabilities: Probabilities, labels: npt.NDArray[np.int64], method: SetMethod
) -> npt.NDArray[np.float64]:
    """Non-conformity of each track's true genre, (K,)."""
    return np.asarray(nonconformity(probabilities, method)[np.arange(len(labels)), labels])


def conformal_quantile(
    scores: npt.NDArray[np.float64],
    coverage: float,
    collections: npt.NDArray[np.str_] | None = None,
) -> float:
    """The largest score that a set must admit to reach a coverage.

    Args:
        scores: (K,) non-conformity of the true genres of held-out tracks.
        coverage: wanted probability that a set contains the true genre, in (0, 1).
        collections: (K,) names of collections that count the same each; None: tracks do.

    Raises:
        ValueError: the tracks or the collections are too few for that coverage.

    >>> conformal_quantile(np.arange(1, 10) / 10, 0.8)
    0.8
    """
    order, reached = _coverage_reached(scores, collections)
    if coverage > reached[-1] + ROUNDING:
        raise ValueError(f"{len(scores)} tracks cannot support a coverage of {coverage:g}")
    return float(scores[order[np.searchsorted(reached + ROUNDING, coverage)]])


def fit_quantiles(
    scores: npt.NDArray[np.float64], collections: npt.NDArray[np.str_] | None = None
) -> dict[str, float]:
    """Coverage ("0.90") → quantile, for every stored coverage that the tracks support."""
    supported = _coverage_reached(scores, collections)[1][-1] + ROUNDING
    # rounded up: rounding down would exclude the track that defines the quantile
    return {
        f"{c:.2f}": math.ceil(conformal_quantile(scores, c, collections) * 1e4) / 1e4
        for c in COVERAGES
        if c <= supported
    }


def prediction_sets(
    probabilities: Probabilities, quantile: float, method: SetMethod = "lac"
) -> npt.NDArray[np.bool_]:
    """Membership of each genre, (K, C); the most probable one is always in: no set is empty."""
    members = nonconformity(probabilities, method) <= quantile + ROUNDING
    members[np.arange(len(members)), probabilities.argmax(axis=1)] = True
    return np.asarray(members)


def _coverage_reached(
    scores: npt.NDArray[np.float64], collections: npt.NDArray[np.str_] | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Order of the scores, and the coverage that admitting each of them in turn reaches, (K,).

    The last is below 1: one part in G + 1, or in K + 1, stands for the track to come.
    """
    order = np.argsort(scores, kind="stable")
    if collections is None:
        return order, np.arange(1, len(scores) + 1) / (len(scores) + 1)
    _, number, counts = np.unique(collections, return_inverse=True, return_counts=True)
    shares = 1 / ((len(counts) + 1) * counts[number])
    return order, np.cumsum(shares[order])
