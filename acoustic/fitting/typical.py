"""Fit the usual distance, the usual disagreement and the frequent mistakes of held-out tracks.

Shapes: K tracks, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from acoustic.fitting.tracks import Tracks
from acoustic.postprocess.calibration import WindowCalibration
from acoustic.postprocess.uncertainty import (
    energy,
    segment_disagreement,
    training_distance,
    unlike_music,
)

UNUSUAL_RATIOS = {"segment_disagreement": 0.05, "distance": 0.025, "not_music": 0.02}
"""Share of the calibration tracks that exceed each limit, in [0, 1]."""

MIN_CONFUSED = 3
"""Minimum count of a mistake: a rarer one may be chance."""


def with_limits(
    fitted: WindowCalibration,
    tracks: Tracks,
    n: int,
    weights: npt.NDArray[np.float64] | None = None,
) -> WindowCalibration:
    """The calibration for n windows with the usual range of disagreement and of distances.

    Args:
        fitted: what is fitted for n windows so far.
        tracks: K tracks.
        n: number of windows.
        weights: (K,) how much each track counts, alike if None.
    """
    logits = tracks.logits[n]
    measures = {"energy": np.array([energy(each) for each in logits])}
    if n in tracks.distances:
        measures["neighbours"] = tracks.distances[n].astype(np.float64)
    if n in tracks.music:
        measures["not_music"] = -tracks.music[n].astype(np.float64)
    scales = {}
    for name, values in measures.items():
        median, p95 = (round(_quantile(values, q, weights), 5) for q in (0.5, 0.95))
        scales[name] = (median, p95)
    fitted = replace(fitted, scales=scales)
    found = {
        "segment_disagreement": [segment_disagreement(x, fitted.temperature) for x in logits],
        "distance": [
            training_distance(each, tracks.distance(n, i), fitted) for i, each in enumerate(logits)
        ],
    }
    if n in tracks.music:
        found["not_music"] = [unlike_music(float(x), fitted) for x in tracks.music[n]]
    limits = {
        name: round(_quantile(np.array(numbers, float), 1 - UNUSUAL_RATIOS[name], weights), 4)
        for name, numbers in found.items()
    }
    return replace(fitted, limits=limits)


def _quantile(
    values: npt.NDArray[np.float64], q: float, weights: npt.NDArray[np.float64] | None
) -> float:
    if weights is None:
        return float(np.quantile(values, q))
    return float(np.quantile(values, q, weights=weights, method="inverted_cdf"))


def find_confusions(
    predicted: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Frequent mistakes: answered genre → true genre → share of those answers.

    Args:
        predicted: (K,) answered class indices.
        labels: (K,) true class indices.
        names: names of the C genres.
    """
    found: dict[str, dict[str, float]] = {}
    for answer in np.unique(predicted):
        truth = labels[predicted == answer]
        shares = {
            names[true]: round(float(np.mean(truth == true)), 4)
            for true in np.unique(truth)
            if true != answer and np.sum(truth == true) >= MIN_CONFUSED
        }
        if shares:
            found[names[answer]] = shares
    return found
