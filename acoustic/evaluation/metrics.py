"""Measures of a classifier, each a function of arrays, and their bootstrap intervals.

Shapes: K tracks, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from acoustic.postprocess.calibration import Probabilities, adaptive_ece

Labels = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]

N_BOOTSTRAP = 1000
ECE_BINS = 10


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % bootstrap interval over tracks."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """JSON form, rounded to four digits."""
        return {name: round(number, 4) for name, number in asdict(self).items()}

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"


def bootstrap(
    statistic: Callable[..., float], *arrays: npt.NDArray[np.generic], seed: int = 0
) -> Interval:
    """A statistic with its percentile interval.

    Args:
        statistic: function of the arrays.
        arrays: each with K rows; rows are resampled together.
        seed: of the resampling.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    >>> coin = np.array([True, False] * 100)
    >>> bootstrap(lambda flags: float(flags.mean()), coin).value
    0.5
    """
    rng = np.random.default_rng(seed)
    n = len(arrays[0])
    drawn = [
        statistic(*(array[chosen] for array in arrays))
        for chosen in rng.integers(n, size=(N_BOOTSTRAP, n))
    ]
    finite = [value for value in drawn if np.isfinite(value)]
    value = statistic(*arrays)
    low, high = np.percentile(finite, (2.5, 97.5)) if finite else (value, value)
    return Interval(value, float(low), float(high))


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
    safe = np.maximum(probabilities, 1e-12)
    return np.asarray(-(safe * np.log(safe)).sum(axis=1) / np.log(probabilities.shape[1]))


def ece_null_p95(probabilities: Probabilities, seed: int = 0) -> float:
    """What the adaptive ECE of a perfectly calibrated model would stay below 95 times in 100.

    A finite sample never has an ECE of 0: labels are drawn from the model's own probabilities,
    and the ECE is taken again, many times (Vaicenavicius et al., Evaluating Model Calibration,
    2019).
    """
    rng = np.random.default_rng(seed)
    cumulative = probabilities.cumsum(axis=1)
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

    Nan where one side is empty.
    """
    if not len(positive) or not len(negative):
        return float("nan")
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left")
    not_above = np.searchsorted(ordered, positive, "right")
    return float((below + not_above).sum() / 2 / len(positive) / len(negative))


def error_auroc(confidence: Scores, correct: Flags) -> float:
    """How well low confidence finds the errors: AUROC of 1 − confidence, errors positive."""
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
