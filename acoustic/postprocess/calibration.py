"""What is fitted on held-out tracks and stored with a checkpoint, per number of windows.

The best temperature depends on how many windows of a track were evaluated, and so do the quantiles
of the prediction sets, the confidence below which a person should look, and the usual range of
distance and disagreement: one `WindowCalibration` holds them for one number of windows.

Source: Guo et al., On Calibration of Modern Neural Networks (2017).
Shapes: S windows of one track, C classes.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acoustic.checkpoint_folder import CALIBRATION_FILE, CheckpointFolder
from acoustic.errors import CheckpointError

Logits = npt.NDArray[np.float32]
Probabilities = npt.NDArray[np.float64]

FORMAT_VERSION = 2
"""Release 0.2.0 wrote format 1, which has no version field; it is still read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowCalibration:
    """What was fitted for one number of windows.

    Attributes:
        temperature: divisor of the logits, positive.
        nll: mean negative log-likelihood after the fit, nats; None if it was not measured.
        ece: adaptive expected calibration error after the fit, in [0, 1]; None if not measured.
        quantiles: method of the prediction sets → coverage ("0.90") → quantile.
        review_threshold: confidence below which a person should look; None where none was fitted.
        family_threshold: probability of the most probable family from which it is a reliable
            answer; None where none was fitted.
        scales: measure of distance → its median and 95th percentile.
        limits: measure of uncertainty → value that few tracks exceed.
        confidence_deciles: the nine deciles of the answers' confidence, () where not fitted.
    """

    temperature: float
    nll: float | None = None
    ece: float | None = None
    quantiles: dict[str, dict[str, float]] = field(default_factory=dict)
    review_threshold: float | None = None
    family_threshold: float | None = None
    scales: dict[str, tuple[float, float]] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    confidence_deciles: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}, must be positive")

    def quantile(self, method: str, coverage: float) -> float | None:
        """Quantile of a prediction set, or None where the tracks were too few for that coverage.

        Args:
            method: one of `conformal.SET_METHODS`.
            coverage: wanted, in steps of 0.01.
        """
        return self.quantiles.get(method, {}).get(f"{coverage:.2f}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """What was fitted on held-out tracks, and on which.

    Attributes:
        windows: number of windows → what was fitted for it.
        checkpoint_digest: digest of the model that the calibration belongs to.
        dataset: what it was fitted on, in words.
        n_tracks: number of tracks it was fitted on.
        n_collections: number of collections of those tracks, none of which the model was trained
            on; 0 where it was trained on some of them, or where they are too few to stand for
            others.
        date: ISO date of the fit.
        floor: probability spread evenly over all genres, in [0, 1); 0 is off (the guide's 4.2).
        review_accuracy: target of the review thresholds, or None where none were fitted.
        confusions: answered genre → true genre → share of those answers, where it is large.
        groups: short hashes of the groups that it was fitted on.
        means: mean logit of each genre over the tracks, () to leave logits as they are.
        deviations: standard deviation of the same logits, ().
        metric: what the temperature minimises.
    """

    windows: dict[int, WindowCalibration]
    checkpoint_digest: str
    dataset: str
    n_tracks: int
    date: str
    n_collections: int = 0
    floor: float = 0.0
    review_accuracy: float | None = None
    confusions: dict[str, dict[str, float]] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()
    metric: str = "nll"

    def __post_init__(self) -> None:
        if not 0 <= self.floor < 1:
            raise ValueError(f"floor is {self.floor}, limits are 0 to below 1")
        if len(self.means) != len(self.deviations) or any(d <= 0 for d in self.deviations):
            raise ValueError("each mean needs a positive deviation")
        if not self.windows or min(self.windows) < 1:
            raise ValueError(f"numbers of windows must be positive: {sorted(self.windows)}")

    @property
    def is_fitted(self) -> bool:
        """Whether it was fitted at all; see `uncalibrated`."""
        return self.n_tracks > 0

    def standardised(self, logits: Logits) -> Logits:
        """Logits on one scale for all genres, where means and deviations were fitted.

        Scores of labels that were trained each on its own say little about each other: one label's
        usual score is another's maximum.

        Args:
            logits: (S, C) float32.
        """
        if not self.means:
            return logits
        means, deviations = np.array(self.means), np.array(self.deviations)
        return np.asarray((logits - means) / deviations, np.float32)

    def at(self, n_windows: int) -> WindowCalibration:
        """What was fitted for a number of windows, or for the closest one by ratio.

        Args:
            n_windows: S, the windows that were evaluated.
        """
        return self.windows[min(self.windows, key=lambda n: abs(math.log(n / n_windows)))]

    def with_temperature(self, temperature: float | None) -> Calibration:
        """The calibration with one fixed temperature; itself for None.

        What was fitted to the probabilities at the fitted temperatures does not hold then and is
        left out: the quantiles of the prediction sets and the review thresholds.

        Args:
            temperature: divisor of the logits, positive, for every number of windows.
        """
        if temperature is None:
            return self
        windows = {
            n: replace(
                each,
                temperature=temperature,
                quantiles={},
                review_threshold=None,
                family_threshold=None,
            )
            for n, each in self.windows.items()
        }
        return replace(self, windows=windows)


def softmax(logits: npt.NDArray[np.floating]) -> Probabilities:
    """Probabilities over the last axis, float64."""
    # shifted by the maximum, so that no exponential overflows
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True).astype(np.float64)
    exponentials = np.exp(shifted)
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def sigmoid(log_odds: npt.NDArray[np.floating]) -> Probabilities:
    """Probabilities of log-odds, float64, same shape."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * log_odds.astype(np.float64))))  # never overflows


def calibrated_probabilities(
    logits: Logits, temperature: float, floor: float = 0.0
) -> Probabilities:
    """Softmax of logits divided by the temperature.

    Args:
        logits: (S, C) float32.
        temperature: T, positive; above 1 flattens.
        floor: probability that is spread evenly over all genres, in [0, 1).

    Returns:
        (S, C) float64, rows sum to 1, the ranking is that of the logits.
    """
    probabilities = softmax(logits.astype(np.float64) / temperature)
    return np.asarray((1 - floor) * probabilities + floor / logits.shape[-1])


def uncalibrated(digest: str) -> Calibration:
    """Calibration of a checkpoint that has none: temperature 1, no prediction sets, no limits.

    Args:
        digest: digest of the checkpoint.
    """
    return Calibration(
        windows={1: WindowCalibration(temperature=1.0)},
        checkpoint_digest=digest,
        dataset="",
        n_tracks=0,
        date="",
    )


def load_calibration(folder: CheckpointFolder) -> Calibration:
    """calibration.json of a checkpoint; `uncalibrated` where there is none.

    Args:
        folder: the checkpoint, whose digest the calibration must have been fitted for.

    Raises:
        CheckpointError: malformed, of a later format, or fitted for another model.
    """
    if not folder.has(CALIBRATION_FILE):
        return uncalibrated(folder.digest)
    content = folder.read_json(CALIBRATION_FILE)
    version = content.pop("format", 1)
    if version not in (1, FORMAT_VERSION):
        raise CheckpointError(
            f"{CALIBRATION_FILE} has format {version}, this release reads up to {FORMAT_VERSION}: "
            "install a later release, or calibrate the checkpoint again"
        )
    try:
        windows = _windows_of_format_1(content) if version == 1 else content.pop("windows")
        for name in ("means", "deviations"):
            content[name] = tuple(map(float, content.get(name, ())))
        calibration = Calibration(
            windows={int(n): _window(each) for n, each in windows.items()}, **content
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{CALIBRATION_FILE} cannot be used: {error}") from error
    if calibration.checkpoint_digest != folder.digest:
        raise CheckpointError(
            f"{CALIBRATION_FILE} was fitted for model {calibration.checkpoint_digest}, "
            f"this one is {folder.digest}: run `acousticsense calibrate`"
        )
    return calibration


def save_calibration(folder: Path, calibration: Calibration) -> None:
    """Write calibration.json into a checkpoint folder."""
    content = {"format": FORMAT_VERSION, **asdict(calibration)}
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (folder / CALIBRATION_FILE).write_text(text + "\n", encoding="utf-8")


def _window(content: dict[str, Any]) -> WindowCalibration:
    scales = content.get("scales", {})
    return WindowCalibration(
        **{
            **content,
            "temperature": float(content["temperature"]),
            "scales": {name: (float(low), float(high)) for name, (low, high) in scales.items()},
            "confidence_deciles": tuple(map(float, content.get("confidence_deciles", ()))),
        }
    )


_TABLES = {
    "nll": "nll", "ece": "ece", "review_thresholds": "review_threshold",
    "confidence_deciles": "confidence_deciles",
}  # fmt: skip
_TABLES_BY_NAME = ("quantiles", "scales", "limits")


def _windows_of_format_1(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Format 1 has a table per quantity, keyed by the number of windows, not the other way round.

    Takes the tables out of `content`.
    """
    windows = {n: {"temperature": t} for n, t in content.pop("temperatures").items()}
    for table, name in _TABLES.items():
        for n, value in content.pop(table, {}).items():
            windows[n][name] = value
    for table in _TABLES_BY_NAME:
        for measure, values in content.pop(table, {}).items():
            for n, value in values.items():
                windows[n].setdefault(table, {})[measure] = value
    return windows
