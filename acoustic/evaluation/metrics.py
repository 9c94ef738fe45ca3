"""Measures of a classifier, each a function of arrays, and their bootstrap intervals.

Shapes: K tracks, C classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from acoustic.fitting.intervals import N_BOOTSTRAP
from acoustic.fitting.scores import adaptive_ece
from acoustic.postprocess.calibration import Probabilities
from acoustic.postprocess.uncertainty import entropy

Labels = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]

ECE_BINS = 10


def accuracy(probabilities: Probabilities, labels: Labels) -> float:
    """Share of tracks whose most probable genre is right."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def confusion(predicted: Labels, labels: Labels, n_classes: int) -> npt.NDArray[np.int64]:
    """(C, C) counts; rows are the true genres."""
    counts = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def macro_f1(predicted: Labels, labels: Labels) -> float:
    """Mean F1 over the genres that occur among the labels.

    A genre that is never predicted counts as 0.
    """
    # F1 = 2 · hits / (predicted + true), from precision hits / predicted and recall hits / true.
    classes = np.unique(labels)
    hits = np.array([((predicted == c) & (labels == c)).sum() for c in classes])
    called = np.array([(predicted == c).sum() for c in classes])
    present = np.array([(labels == c).sum() for c in classes])
    return float((2 * hits / (called + present)).mean())


def brier(probabilities: Probabilities, labels: Labels) -> float:
    """Mean squared distance to the one-hot truth, in [0, 2] (Brier, 1950, multi-class)."""
    truth = np.zeros_like(probabilities)
    truth[np.arange(len(labels)), labels] = 1
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def entropies(probabilities: Probabilities) -> Scores:
    """(K,) entropy over its maximum log C, in [0, 1]."""
    return np.asarray(entropy(probabilities) / np.log(probabilities.shape[1]))


def ece_null_p95(probabilities: Probabilities, seed: int = 0) -> float:
    """95th percentile of the adaptive ECE that a perfectly calibrated model would have.

    A finite sample never has an ECE of 0. Labels are therefore drawn from the model's own
    probabilities, and the ECE is computed from them, N_BOOTSTRAP times (Vaicenavicius et al.,
    Evaluating Model Calibration, 2019).
    """
    rng = np.random.default_rng(seed)
    cumulative = probabilities.cumsum(axis=1)
    # A label is the number of cumulative probabilities below a uniform draw. Rounding may leave the
    # last one below 1, which would give the label C.
    cumulative[:, -1] = 1.0
    drawn = [
        adaptive_ece(
            probabilities,
            (rng.random((len(probabilities), 1)) > cumulative).sum(axis=1),
            ECE_BINS,
        )
        for _ in range(N_BOOTSTRAP)
    ]
    return float(np.percentile(drawn, 95))


def auroc(positive: Scores, negative: Scores) -> float:
    """Probability that a positive scores above a negative; ties count half.

    NaN if one side is empty.
    """
    if not len(positive) or not len(negative):
        return float("nan")
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left")
    not_above = np.searchsorted(ordered, positive, "right")
    return float((below + not_above).sum() / 2 / len(positive) / len(negative))


def error_auroc(confidence: Scores, correct: Flags) -> float:
    """AUROC of 1 − confidence for detecting wrong answers, which are the positives."""
    return auroc(1 - confidence[~correct], 1 - confidence[correct])


def risk_coverage(confidence: Scores, correct: Flags) -> Scores:
    """(K,) error rate among the k + 1 most confident tracks."""
    order = np.argsort(-confidence, kind="stable")
    return np.asarray(np.cumsum(~correct[order]) / np.arange(1, len(order) + 1))


def aurc(confidence: Scores, correct: Flags) -> float:
    """Area under the risk–coverage curve, lower is better (Geifman and El-Yaniv, 2017)."""
    return float(risk_coverage(confidence, correct).mean())


def accuracy_at_coverage(confidence: Scores, correct: Flags, coverage: float) -> float:
    """Accuracy among the most confident `coverage` of the tracks."""
    n_kept = max(1, round(coverage * len(confidence)))
    return 1 - float(risk_coverage(confidence, correct)[n_kept - 1])
