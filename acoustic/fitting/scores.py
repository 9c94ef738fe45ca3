"""Proper scores and calibration errors of probabilities.

Shapes: K tracks, C classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from acoustic.postprocess.calibration import Probabilities


def negative_log_likelihood(
    probabilities: Probabilities,
    labels: npt.NDArray[np.int64],
    weights: npt.NDArray[np.float64] | None = None,
) -> float:
    """Mean of −log p(label), natural logarithm, weighted if there are weights (K,)."""
    # 1e-12 keeps the logarithm finite where the true genre has probability 0.
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(np.average(-np.log(np.maximum(chosen, 1e-12)), weights=weights))


def adaptive_ece(
    probabilities: Probabilities, labels: npt.NDArray[np.int64], n_bins: int = 10
) -> float:
    """Expected calibration error with bins of equal counts, in [0, 1].

    Source: Nixon et al., Measuring Calibration in Deep Learning (2019).
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    # Σ n_bin / K · |accuracy − confidence| over bins of consecutive confidences; the stable sort
    # makes the bins reproducible where confidences are equal.
    order = np.argsort(confidence, kind="stable")
    gaps = [
        len(bin_) * abs(correct[bin_].mean() - confidence[bin_].mean())
        for bin_ in np.array_split(order, n_bins)
        if len(bin_)
    ]
    return float(sum(gaps) / len(labels))
