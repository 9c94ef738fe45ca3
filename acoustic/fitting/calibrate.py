"""Fit calibration.json on held-out tracks, and cross-fit it for unbiased measurements.

Temperature, floor, quantiles and review thresholds are fitted on the valid clips, whose artists
the model was not trained on. Measured on those same clips they would look better than they are.
For measurements, the groups are therefore dealt into folds, and each fold is calibrated with a
fit on the others.

Shapes: K tracks, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from acoustic.errors import ConfigError
from acoustic.fitting.intervals import group_folds
from acoustic.fitting.scores import adaptive_ece, negative_log_likelihood
from acoustic.fitting.temperature import (
    fit_floor,
    fit_temperature,
    review_threshold,
    track_probabilities,
)
from acoustic.fitting.tracks import Tracks
from acoustic.fitting.typical import find_confusions, with_limits
from acoustic.postprocess.calibration import Calibration, Probabilities, WindowCalibration
from acoustic.postprocess.conformal import (
    SET_METHODS,
    SetMethod,
    fit_quantiles,
    prediction_sets,
    true_scores,
)

MIN_TRACKS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationConfig:
    """Settings of the fit.

    Attributes:
        review_accuracy: accuracy wanted among the answers that nobody reviews, in (0, 1].
        with_floor: whether to fit the probability floor too; otherwise it is 0.
    """

    review_accuracy: float = 0.8
    with_floor: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.review_accuracy <= 1:
            raise ValueError(f"review accuracy is {self.review_accuracy}, limits are 0 to 1")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Calibrated:
    """Calibrated answers of K tracks.

    Attributes:
        probabilities: (K, C) calibrated, rows sum to 1.
        sets: (K, C) whether each genre is in the track's prediction set.
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
    """Fit everything that calibration.json stores.

    Args:
        tracks: tracks held out from training, at least MIN_TRACKS.
        digest: digest of the checkpoint.
        genres: names of the C genres, in the order of the logits.
        config: what to fit.

    Raises:
        ConfigError: fewer than MIN_TRACKS tracks.
    """
    if len(tracks) < MIN_TRACKS:
        raise ConfigError(f"{len(tracks)} valid tracks are too few: {MIN_TRACKS} are needed")
    fitted = _fit(tracks, digest, config)
    most = max(tracks.logits)
    probabilities = track_probabilities(tracks.logits[most], fitted.windows[most].temperature)
    confusions = find_confusions(probabilities.argmax(axis=1), tracks.labels, genres)
    return replace(fitted, confusions=confusions)


def _fit(tracks: Tracks, digest: str, config: CalibrationConfig) -> Calibration:
    temperatures = {
        n: round(fit_temperature(logits, tracks.labels), 4) for n, logits in tracks.logits.items()
    }
    floor = _fit_shared_floor(tracks, temperatures) if config.with_floor else 0.0
    return Calibration(
        windows={
            n: _fit_windows(tracks, n, temperature, floor, config.review_accuracy)
            for n, temperature in temperatures.items()
        },
        checkpoint_digest=digest,
        dataset="valid clips of " + ", ".join(sorted(set(tracks.sources))),
        n_tracks=len(tracks),
        date=datetime.now(UTC).date().isoformat(),
        floor=floor,
        review_accuracy=config.review_accuracy,
        groups=sorted(set(tracks.groups)),
    )


def _fit_windows(
    tracks: Tracks, n: int, temperature: float, floor: float, target: float
) -> WindowCalibration:
    """Everything that depends on the calibrated probabilities, for n windows per track."""
    labels = tracks.labels
    probabilities = track_probabilities(tracks.logits[n], temperature, floor)
    correct = probabilities.argmax(axis=1) == labels
    confidence = probabilities.max(axis=1)
    fitted = WindowCalibration(
        temperature=temperature,
        nll=round(negative_log_likelihood(probabilities, labels), 4),
        ece=round(adaptive_ece(probabilities, labels), 4),
        quantiles={
            method: fit_quantiles(true_scores(probabilities, labels, method))
            for method in SET_METHODS
        },
        # rounded up: rounding down would accept a track below the threshold
        review_threshold=math.ceil(review_threshold(confidence, correct, target) * 1e4) / 1e4,
        confidence_deciles=tuple(
            round(float(x), 4) for x in np.percentile(confidence, range(10, 100, 10))
        ),
    )
    return with_limits(fitted, tracks, n)


def apply_calibration(
    tracks: Tracks,
    calibration: Calibration,
    n_windows: int,
    coverage: float,
    method: SetMethod = "lac",
) -> Calibrated:
    """Apply a calibration: probabilities, prediction sets and review decisions of all tracks.

    Args:
        tracks: K tracks to calibrate.
        calibration: calibration that was fitted on other tracks.
        n_windows: windows evaluated per track.
        coverage: coverage of the prediction sets, a multiple of 0.01 from 0.5 to 0.99.
        method: method of the prediction sets.

    Raises:
        ConfigError: the calibration was fitted on too few tracks for that coverage.
    """
    fitted = calibration.at(n_windows)
    quantile = fitted.quantile(method, coverage)
    if quantile is None:
        raise ConfigError(
            f"a calibration on {calibration.n_tracks} tracks does not support a coverage of "
            f"{coverage:g} with {n_windows} windows: lower it, or calibrate on more tracks"
        )
    probabilities = track_probabilities(
        tracks.logits[n_windows], fitted.temperature, calibration.floor
    )
    threshold = fitted.review_threshold
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
    """Cross-fit: calibrate each fold of the calibration tracks with a fit on the other folds.

    Args:
        tracks: K tracks.
        n_windows: windows evaluated per track.
        coverage: coverage of the prediction sets, a multiple of 0.01 from 0.5 to 0.99.
        config: what to fit.
        unique: (K,) whether to fit on each track; all by default. Exclude repeats here, otherwise
            a recording that two data sets have counts twice.

    Raises:
        ConfigError: all tracks are of one group, or there are too few for that coverage.
    """
    folds = group_folds(tracks, seed=0)
    parts: list[tuple[npt.NDArray[np.bool_], Calibrated]] = []
    for number in np.unique(folds):
        chosen = folds == number
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


def _fit_shared_floor(tracks: Tracks, temperatures: dict[int, float]) -> float:
    """Fit one floor for all numbers of windows: the mean of the best floor of each number."""
    floors = [
        fit_floor(track_probabilities(logits, temperatures[n]), tracks.labels)
        for n, logits in tracks.logits.items()
    ]
    return round(float(np.mean(floors)), 4)
