"""What is usual for held-out tracks: how far they are from the training data, how much their
parts disagree, and which genres are answered for which.

Shapes: K tracks, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from acoustic.postprocess.calibration import Calibration
from acoustic.postprocess.uncertainty import energy, segment_disagreement, training_distance
from acoustic.training.tracks import Tracks

UNUSUAL_RATIOS = {"segment_disagreement": 0.06, "distance": 0.025}
"""Share of the calibration tracks that pass each limit."""

MIN_CONFUSED = 3
"""A mistake made less often than this may be chance."""


def with_limits(calibration: Calibration, tracks: Tracks, n: int) -> Calibration:
    """The calibration with the usual range of disagreement and distance, for n windows."""
    logits = tracks.logits[n]
    measures = {"energy": np.array([energy(each) for each in logits])}
    if n in tracks.distances:
        measures["neighbours"] = tracks.distances[n].astype(np.float64)
    scales = dict(calibration.scales)
    for name, values in measures.items():
        median, p95 = (round(float(v), 5) for v in np.percentile(values, (50, 95)))
        scales[name] = {**scales.get(name, {}), n: (median, p95)}
    calibration = replace(calibration, scales=scales)
    temperature = calibration.temperatures[n]
    found = {
        "segment_disagreement": [segment_disagreement(each, temperature) for each in logits],
        "distance": [
            training_distance(each, tracks.distance(n, i), calibration)
            for i, each in enumerate(logits)
        ],
    }
    limits = dict(calibration.limits)
    for name, numbers in found.items():
        value = round(float(np.quantile(np.array(numbers, float), 1 - UNUSUAL_RATIOS[name])), 4)
        limits[name] = {**limits.get(name, {}), n: value}
    return replace(calibration, limits=limits)


def find_confusions(
    predicted: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Answered genre → true genre → share of those answers, where both counts say something."""
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
