"""Temperature scaling, one temperature per number of windows that were averaged.

Input is logits, never probabilities. The best temperature depends on how many windows a track
was heard through, so a table of them is fitted and stored with the checkpoint.

Source: Guo et al., On Calibration of Modern Neural Networks (2017).
Shapes: S windows of one track, C classes, K tracks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acoustic.errors import CheckpointError
from acoustic.manifest import CALIBRATION_FILE, load_json

Logits = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float64]

TEMPERATURE_BOUNDS = (0.05, 20.0)


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
    """

    temperatures: dict[int, float]
    checkpoint_digest: str
    dataset: str
    n_tracks: int
    date: str
    nll: dict[int, float]
    ece: dict[int, float]

    def __post_init__(self) -> None:
        if not self.temperatures or min(self.temperatures.values()) <= 0:
            raise ValueError(f"temperatures must be positive: {self.temperatures}")

    def temperature(self, n_windows: int) -> float:
        """T of the closest fitted number of windows, by ratio."""
        closest = min(self.temperatures, key=lambda n: abs(np.log(n / n_windows)))
        return self.temperatures[closest]


def calibrated_probabilities(logits: Logits, temperature: float) -> Probabilities:
    """Softmax of logits over the temperature.

    Args:
        logits: (S, C) float32.
        temperature: T, positive; above 1 flattens.

    Returns:
        (S, C) float64, rows sum to 1, the ranking is that of the logits.
    """
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


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


def track_probabilities(logits: Sequence[Logits], temperature: float) -> Probabilities:
    """(K, C) mean probabilities of K tracks."""
    return np.stack([calibrated_probabilities(x, temperature).mean(axis=0) for x in logits])


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
        for name in ("temperatures", "nll", "ece"):
            content[name] = {int(n): float(value) for n, value in content[name].items()}
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
