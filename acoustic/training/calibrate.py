"""Fit what stage 3 needs on held-out tracks, and cross-fit it to measure it honestly.

Temperature, floor, quantiles and review thresholds are fitted on the valid clips, whose artists
the model never saw. Measured on those same clips they would flatter; so for measurements the
groups are dealt into folds, and each fold is calibrated by the others.

Shapes: K tracks, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from acoustic.errors import ConfigError
from acoustic.postprocess.calibration import (
    Calibration,
    Probabilities,
    adaptive_ece,
    fit_floor,
    fit_temperature,
    negative_log_likelihood,
    review_threshold,
    track_probabilities,
)
from acoustic.postprocess.conformal import (
    SET_METHODS,
    SetMethod,
    fit_quantiles,
    prediction_sets,
    true_scores,
)
from acoustic.training.limits import find_confusions, with_limits
from acoustic.training.splits import joined
from acoustic.training.tracks import Tracks

MIN_TRACKS = 20
N_FOLDS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationConfig:
    """What to fit.

    Attributes:
        review_accuracy: wanted among the answers that nobody reviews, in (0, 1].
        with_floor: fit the probability floor as well; 0 otherwise.
    """

    review_accuracy: float = 0.8
    with_floor: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.review_accuracy <= 1:
            raise ValueError(f"review accuracy is {self.review_accuracy}, limits are 0 to 1")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Calibrated:
    """Tracks after stage 3.

    Attributes:
        probabilities: (K, C).
        sets: (K, C) membership of the prediction sets.
        accepted: (K,) whether the confidence reaches the review threshold.
    """

    probabilities: Probabilities
    sets: npt.NDArray[np.bool_]
    accepted: npt.NDArray[np.bool_]

    def take(self, chosen: npt.NDArray[np.bool_]) -> Calibrated:
        """The tracks where `chosen` (K,) is true."""
        return Calibrated(
            probabilities=self.probabilities[chosen],
            sets=self.sets[chosen],
            accepted=self.accepted[chosen],
        )


def fit_calibration(
    tracks: Tracks, digest: str, genres: Sequence[str], config: CalibrationConfig
) -> Calibration:
    """Everything in calibration.json.

    Args:
        tracks: held out from training.
        digest: of the checkpoint.
        genres: the C names, in the order of the logits.
        config: what to fit.

    Raises:
        ConfigError: fewer than MIN_TRACKS tracks.
    """
    if len(tracks) < MIN_TRACKS:
        raise ConfigError(f"{len(tracks)} valid tracks are too few: {MIN_TRACKS} are needed")
    fitted = _fit(tracks, digest, config)
    most = max(tracks.logits)
    probabilities = track_probabilities(tracks.logits[most], fitted.temperatures[most])
    confusions = find_confusions(probabilities.argmax(axis=1), tracks.labels, genres)
    return replace(fitted, confusions=confusions)


def _fit(tracks: Tracks, digest: str, config: CalibrationConfig) -> Calibration:
    temperatures = {
        n: round(fit_temperature(logits, tracks.labels), 4) for n, logits in tracks.logits.items()
    }
    floor = _fit_shared_floor(tracks, temperatures) if config.with_floor else 0.0
    calibration = Calibration(
        temperatures=temperatures,
        checkpoint_digest=digest,
        dataset="valid clips of " + ", ".join(sorted(set(tracks.sources))),
        n_tracks=len(tracks),
        date=datetime.now(UTC).date().isoformat(),
        nll={},
        ece={},
        floor=floor,
        review_accuracy=config.review_accuracy,
        groups=sorted(set(tracks.groups)),
    )
    for n in tracks.logits:
        calibration = _with_tables(calibration, tracks, n, config.review_accuracy)
        calibration = with_limits(calibration, tracks, n)
    return calibration


def apply_calibration(
    tracks: Tracks,
    calibration: Calibration,
    n_windows: int,
    coverage: float,
    method: SetMethod = "lac",
) -> Calibrated:
    """Stage 3 of all tracks.

    Args:
        tracks: to be calibrated.
        calibration: fitted on other tracks.
        n_windows: heard per track.
        coverage: of the prediction sets, a multiple of 0.01 from 0.5 to 0.99.
        method: of the prediction sets.

    Raises:
        ConfigError: the calibration rests on too few tracks for that coverage.
    """
    quantile = calibration.quantile(method, n_windows, coverage)
    if quantile is None:
        raise ConfigError(
            f"a calibration on {calibration.n_tracks} tracks does not support a coverage of "
            f"{coverage:g} with {n_windows} windows"
        )
    probabilities = track_probabilities(
        tracks.logits[n_windows], calibration.temperature(n_windows), calibration.floor
    )
    threshold = calibration.review_threshold(n_windows)
    return Calibrated(
        probabilities=probabilities,
        sets=prediction_sets(probabilities, quantile, method),
        accepted=probabilities.max(axis=1) >= (1.0 if threshold is None else threshold),
    )


def cross_fit(
    tracks: Tracks,
    n_windows: int,
    coverage: float,
    config: CalibrationConfig,
    unique: npt.NDArray[np.bool_] | None = None,
) -> Calibrated:
    """Stage 3 of tracks that are themselves the calibration data: each fold by the others.

    Args:
        tracks: K tracks.
        n_windows: heard per track.
        coverage: of the prediction sets.
        config: what to fit.
        unique: (K,) tracks to fit on; all by default. With repeats among them, a recording that
            two data sets have would count twice.

    Raises:
        ConfigError: all tracks are of one group, or too few for that coverage.
    """
    from sklearn.model_selection import GroupKFold

    groups = joined(list(tracks.groups), list(tracks.recordings))
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        raise ConfigError("all valid tracks are of one group: there is nothing to calibrate by")
    folds = GroupKFold(min(N_FOLDS, n_groups), shuffle=True, random_state=0)
    parts: list[tuple[npt.NDArray[np.bool_], Calibrated]] = []
    for _, held_out in folds.split(tracks.labels, groups=groups):
        chosen = np.isin(np.arange(len(tracks)), held_out)
        others = ~chosen if unique is None else ~chosen & unique
        fitted = _fit(tracks.take(others), "", config)
        parts.append((chosen, apply_calibration(tracks.take(chosen), fitted, n_windows, coverage)))
    n_classes = parts[0][1].probabilities.shape[1]
    whole = Calibrated(
        probabilities=np.empty((len(tracks), n_classes)),
        sets=np.empty((len(tracks), n_classes), bool),
        accepted=np.empty(len(tracks), bool),
    )
    for chosen, part in parts:
        whole.probabilities[chosen] = part.probabilities
        whole.sets[chosen] = part.sets
        whole.accepted[chosen] = part.accepted
    return whole


def _with_tables(calibration: Calibration, tracks: Tracks, n: int, target: float) -> Calibration:
    """The calibration with everything that depends on its own probabilities, for n windows."""
    labels = tracks.labels
    probabilities = track_probabilities(
        tracks.logits[n], calibration.temperatures[n], calibration.floor
    )
    correct = probabilities.argmax(axis=1) == labels
    confidence = probabilities.max(axis=1)
    threshold = review_threshold(confidence, correct, target)
    deciles = tuple(round(float(x), 4) for x in np.percentile(confidence, range(10, 100, 10)))
    return replace(
        calibration,
        nll={**calibration.nll, n: round(negative_log_likelihood(probabilities, labels), 4)},
        ece={**calibration.ece, n: round(adaptive_ece(probabilities, labels), 4)},
        quantiles={
            method: {
                **calibration.quantiles.get(method, {}),
                n: fit_quantiles(true_scores(probabilities, labels, method)),
            }
            for method in SET_METHODS
        },
        review_thresholds={**calibration.review_thresholds, n: round(threshold, 4)},
        confidence_deciles={**calibration.confidence_deciles, n: deciles},
    )


def _fit_shared_floor(tracks: Tracks, temperatures: dict[int, float]) -> float:
    """One floor for all numbers of windows: the mean of their own best ones."""
    floors = [
        fit_floor(track_probabilities(logits, temperatures[n]), tracks.labels)
        for n, logits in tracks.logits.items()
    ]
    return round(float(np.mean(floors)), 4)
