"""Temperature scaling, one temperature per number of windows that were averaged.

Input is logits, never probabilities. The best temperature depends on how many windows a track
was heard through, so a table of them is fitted and stored with the checkpoint, beside the
quantiles of the prediction sets and the confidence below which a person should look.

Source: Guo et al., On Calibration of Modern Neural Networks (2017).
Shapes: S windows of one track, C classes, K tracks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acoustic.errors import CheckpointError
from acoustic.manifest import CALIBRATION_FILE, load_json

Logits = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float64]

TEMPERATURE_BOUNDS = (0.05, 20.0)
MIN_ACCEPTED = 20
"""Fewer tracks than this say nothing about an accuracy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What was fitted on held-out tracks, and on which.

    Attributes:
        temperatures: number of windows → T, positive.
        checkpoint_digest: of the model that it belongs to.
        dataset: what it was fitted on, in words. n_tracks: how many.
        date: ISO date of the fit.
        nll: mean negative log-likelihood after the fit, per number of windows.
        ece: adaptive expected calibration error after the fit, per number of windows.
        floor: probability spread evenly over all genres, in [0, 1); 0 is off (the guide's 4.2).
        quantiles: method of the prediction sets → number of windows → coverage ("0.90") → quantile.
        review_accuracy: target of the review thresholds, or None where none were fitted.
        review_thresholds: number of windows → confidence from which the answers reach it.
        scales: measure of distance → number of windows → median and 95th percentile.
        limits: measure of uncertainty → number of windows → value that few tracks pass.
        confusions: answered genre → true genre → share of those answers, where it is large.
        confidence_deciles: number of windows → the nine deciles of the answers' confidence.
        groups: short hashes of the groups that it was fitted on.
        metric: what the temperature minimises.
    """

    temperatures: dict[int, float]
    checkpoint_digest: str
    dataset: str
    n_tracks: int
    date: str
    nll: dict[int, float]
    ece: dict[int, float]
    floor: float = 0.0
    quantiles: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    review_accuracy: float | None = None
    review_thresholds: dict[int, float] = field(default_factory=dict)
    scales: dict[str, dict[int, tuple[float, float]]] = field(default_factory=dict)
    limits: dict[str, dict[int, float]] = field(default_factory=dict)
    confusions: dict[str, dict[str, float]] = field(default_factory=dict)
    confidence_deciles: dict[int, tuple[float, ...]] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    metric: str = "nll"

    def __post_init__(self) -> None:
        if not 0 <= self.floor < 1:
            raise ValueError(f"floor is {self.floor}, limits are 0 to below 1")
        if not self.temperatures or min(self.temperatures.values()) <= 0:
            raise ValueError(f"temperatures must be positive: {self.temperatures}")

    def temperature(self, n_windows: int) -> float:
        """T of the closest fitted number of windows, by ratio."""
        return self.temperatures[_closest(self.temperatures, n_windows)]

    def quantile(self, method: str, n_windows: int, coverage: float) -> float | None:
        """Of the prediction sets, or None where the tracks were too few for that coverage."""
        tables = self.quantiles.get(method)
        if not tables:
            return None
        return tables[_closest(tables, n_windows)].get(f"{coverage:.2f}")

    def review_threshold(self, n_windows: int) -> float | None:
        """Confidence below which a person should look, or None where none was fitted."""
        if not self.review_thresholds:
            return None
        return self.review_thresholds[_closest(self.review_thresholds, n_windows)]

    def scale(self, measure: str, n_windows: int) -> tuple[float, float] | None:
        """Median and 95th percentile of a distance, or None where none were fitted."""
        fitted = self.scales.get(measure)
        return fitted[_closest(fitted, n_windows)] if fitted else None

    def limit(self, measure: str, n_windows: int) -> float | None:
        """Value of an uncertainty that few tracks pass, or None where none was fitted."""
        fitted = self.limits.get(measure)
        return fitted[_closest(fitted, n_windows)] if fitted else None

    def deciles(self, n_windows: int) -> tuple[float, ...] | None:
        """Of the confidences on the calibration tracks, or None where none were fitted."""
        fitted = self.confidence_deciles
        return fitted[_closest(fitted, n_windows)] if fitted else None


def _closest(fitted: Iterable[int], n_windows: int) -> int:
    return min(fitted, key=lambda n: abs(np.log(n / n_windows)))


def calibrated_probabilities(
    logits: Logits, temperature: float, floor: float = 0.0
) -> Probabilities:
    """Softmax of logits over the temperature.

    Args:
        logits: (S, C) float32.
        temperature: T, positive; above 1 flattens.
        floor: probability that is spread evenly over all genres, in [0, 1).

    Returns:
        (S, C) float64, rows sum to 1, the ranking is that of the logits.
    """
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return np.asarray((1 - floor) * probabilities + floor / logits.shape[-1])


def fit_temperature(logits: Sequence[Logits], labels: npt.NDArray[np.int64]) -> float:
    """The temperature with the least NLL of window-averaged probabilities.

    Args:
        logits: K tracks, each (S, C).
        labels: (K,) class indices.

    Returns:
        T within TEMPERATURE_BOUNDS.
    """
    from scipy.optimize import minimize_scalar  # only fitting needs it; serving does not

    low, high = np.log(TEMPERATURE_BOUNDS)
    result = minimize_scalar(
        lambda log_t: negative_log_likelihood(
            track_probabilities(logits, float(np.exp(log_t))), labels
        ),
        bounds=(low, high),
        method="bounded",
    )
    return float(np.exp(result.x))


def fit_floor(probabilities: Probabilities, labels: npt.NDArray[np.int64]) -> float:
    """The probability floor with the least NLL, in [0, 0.5], given calibrated probabilities."""
    from scipy.optimize import minimize_scalar

    n_classes = probabilities.shape[1]
    result = minimize_scalar(
        lambda floor: negative_log_likelihood(
            (1 - floor) * probabilities + floor / n_classes, labels
        ),
        bounds=(0.0, 0.5),
        method="bounded",
    )
    return float(result.x)


def track_probabilities(
    logits: Sequence[Logits], temperature: float, floor: float = 0.0
) -> Probabilities:
    """(K, C) mean probabilities of K tracks."""
    return np.stack([calibrated_probabilities(x, temperature, floor).mean(axis=0) for x in logits])


def review_threshold(
    confidence: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_], target: float
) -> float:
    """The lowest confidence from which the answers are right as often as wanted.

    Args:
        confidence: (K,) probability of the answers, held-out tracks.
        correct: (K,) whether they are right.
        target: accuracy wanted among the answers that nobody reviews, in (0, 1].

    Returns:
        A confidence; 1 where no share of MIN_ACCEPTED tracks or more reaches the target, so that
        every track is reviewed.
    """
    order = np.argsort(-confidence, kind="stable")
    reached = np.cumsum(correct[order]) / np.arange(1, len(order) + 1) >= target
    reached[: MIN_ACCEPTED - 1] = False
    if not reached.any():
        return 1.0
    return float(confidence[order][np.flatnonzero(reached)[-1]])


def negative_log_likelihood(probabilities: Probabilities, labels: npt.NDArray[np.int64]) -> float:
    """Mean of −log p(label), natural logarithm."""
    chosen = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def adaptive_ece(
    probabilities: Probabilities, labels: npt.NDArray[np.int64], n_bins: int = 10
) -> float:
    """Expected calibration error with bins of equal counts, in [0, 1].

    Source: Nixon et al., Measuring Calibration in Deep Learning (2019).
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    order = np.argsort(confidence, kind="stable")
    gaps = [
        len(bin_) * abs(correct[bin_].mean() - confidence[bin_].mean())
        for bin_ in np.array_split(order, n_bins)
        if len(bin_)
    ]
    return float(sum(gaps) / len(labels))


def load_calibration(folder: Path, checkpoint_digest: str) -> Calibration:
    """calibration.json of a checkpoint folder.

    Args:
        folder: the checkpoint.
        checkpoint_digest: that the calibration must have been fitted for.

    Raises:
        CheckpointError: missing, malformed, or fitted for another model.
    """
    content: dict[str, Any] = load_json(folder, CALIBRATION_FILE)
    try:
        for name in ("temperatures", "nll", "ece", "review_thresholds"):
            content[name] = {int(n): float(v) for n, v in content.get(name, {}).items()}
        content["quantiles"] = {
            method: {
                int(n): {coverage: float(q) for coverage, q in table.items()}
                for n, table in tables.items()
            }
            for method, tables in content.get("quantiles", {}).items()
        }
        content["scales"] = {
            measure: {int(n): (float(pair[0]), float(pair[1])) for n, pair in table.items()}
            for measure, table in content.get("scales", {}).items()
        }
        content["limits"] = {
            measure: {int(n): float(value) for n, value in table.items()}
            for measure, table in content.get("limits", {}).items()
        }
        content["confidence_deciles"] = {
            int(n): tuple(float(each) for each in deciles)
            for n, deciles in content.get("confidence_deciles", {}).items()
        }
        calibration = Calibration(**content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{CALIBRATION_FILE} cannot be used: {error}") from error
    if calibration.checkpoint_digest != checkpoint_digest:
        raise CheckpointError(
            f"{CALIBRATION_FILE} was fitted for model {calibration.checkpoint_digest}, "
            f"this one is {checkpoint_digest}"
        )
    return calibration


def save_calibration(folder: Path, calibration: Calibration) -> None:
    """Write calibration.json into a checkpoint folder."""
    text = json.dumps(asdict(calibration), indent=2, ensure_ascii=False)
    (folder / CALIBRATION_FILE).write_text(text + "\n", encoding="utf-8")
