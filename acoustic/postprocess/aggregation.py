"""Aggregation: logits of a track's windows → one probability distribution over genres.

Shapes: S windows, C classes.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from acoustic.postprocess.calibration import Logits, Probabilities, calibrated_probabilities

Aggregation = Literal["mean_probability", "mean_logit", "vote"]


def aggregate(
    logits: Logits, temperature: float, method: Aggregation, floor: float = 0.0
) -> Probabilities:
    """Calibrated probabilities of a track.

    Args:
        logits: (S, C) float32, one row per window.
        temperature: calibration temperature, positive.
        method: "mean_probability" (default of the service, at least as good as a vote on every
            set that was tried), "mean_logit" (a product of experts), or "vote" (the guide's 4.1:
            the share of windows whose best genre it is, ties broken by the mean probability).
        floor: probability spread evenly over all genres, in [0, 1).

    Returns:
        (C,) float64, sums to 1; the order of the windows does not matter.

    Raises:
        ValueError: an unknown method.
    """
    if method == "mean_logit":
        mean = np.sort(logits, axis=0).mean(axis=0, keepdims=True, dtype=np.float64)
        return np.asarray(calibrated_probabilities(mean, temperature, floor)[0])
    windows = calibrated_probabilities(logits, temperature, floor)
    mean_probability = _mean(windows)
    if method == "mean_probability":
        return mean_probability
    if method == "vote":
        return _vote(windows, mean_probability)
    raise ValueError(f"unknown aggregation {method!r}")


def _mean(windows: Probabilities) -> Probabilities:
    """Mean over windows, summed in sorted order: the same digits for any order of the windows."""
    mean = np.sort(windows, axis=0).mean(axis=0)
    return np.asarray(mean / mean.sum())


def _vote(windows: Probabilities, mean_probability: Probabilities) -> Probabilities:
    n_windows, n_classes = windows.shape
    votes = np.bincount(windows.argmax(axis=1), minlength=n_classes) / n_windows
    # far below 1 / S, the share of one vote: it decides between equal counts only
    tie_break = 1e-6
    return np.asarray((votes + tie_break * mean_probability) / (1 + tie_break))
