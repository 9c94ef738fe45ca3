"""Fit calibration.json on held-out tracks, and cross-fit it for unbiased measurements.

Temperature, floor, quantiles, review and family thresholds, and the usual range of distances are
fitted on valid clips of collections that the model was not trained on, where there are enough: what
holds for new artists of known collections does not hold for music from elsewhere. Every collection
counts the same. Measured on those same clips they would look better than they are.
For measurements, the collections are therefore dealt into folds, and each fold is calibrated with a
fit on the others.

Shapes: K tracks, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.data.unseen import MIN_COLLECTIONS
from acoustic.errors import ConfigError
from acoustic.fitting.intervals import collection_weights, group_folds
from acoustic.fitting.scores import adaptive_ece, negative_log_likelihood
from acoustic.fitting.temperature import (
    fit_floor,
    fit_temperature,
    review_threshold,
    track_probabilities,
)
from acoustic.fitting.tracks import Tracks
from acoustic.fitting.typical import find_confusions, with_limits
from acoustic.labels import LabelSet
from acoustic.postprocess.calibration import Calibration, Probabilities, WindowCalibration
from acoustic.postprocess.conformal import (
    SET_METHODS,
    SetMethod,
    fit_quantiles,
    prediction_sets,
    true_scores,
)
from acoustic.postprocess.families import family_probabilities

MIN_TRACKS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationConfig:
    """Settings of the fit.

    Attributes:
        review_accuracy: accuracy wanted among the answers that nobody reviews, in (0, 1].
        with_floor: whether to fit the probability floor too; otherwise it is 0.
        standardise: whether to put the logits of all genres on one scale first, as scores of
            labels that were trained each on its own need.
    """

    review_accuracy: float = 0.8
    with_floor: bool = False
    standardise: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.review_accuracy <= 1:
            raise ValueError(f"review accuracy is {self.review_accuracy}, limits are 0 to 1")


def fit_config(
    folder: CheckpointFolder, *, review_accuracy: float = 0.8, with_floor: bool = False
) -> CalibrationConfig:
    """What to fit for a checkpoint: logits of styles are put on one scale first."""
    return CalibrationConfig(
        review_accuracy=review_accuracy,
        with_floor=with_floor,
        standardise=folder.manifest.styles is not None,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Calibrated:
    """Calibrated answers of K tracks.

    Attributes:
        probabilities: (K, C) calibrated, rows sum to 1.
        sets: (K, C) whether each genre is in the track's prediction set.
        accepted: (K,) whether the confidence reaches the review threshold.
        families: (K,) whether the most probable family reaches its threshold.
    """

    probabilities: Probabilities
    sets: npt.NDArray[np.bool_]
    accepted: npt.NDArray[np.bool_]
    families: npt.NDArray[np.bool_]

    def take(self, chosen: npt.NDArray[np.bool_]) -> Calibrated:
        """The tracks where `chosen` (K,) is true."""
        return Calibrated(
            probabilities=self.probabilities[chosen],
            sets=self.sets[chosen],
            accepted=self.accepted[chosen],
            families=self.families[chosen],
        )


def fit_calibration(
    tracks: Tracks, digest: str, labels: LabelSet, config: CalibrationConfig
) -> Calibration:
    """Fit everything that calibration.json stores.

    Args:
        tracks: tracks held out from training, at least MIN_TRACKS.
        digest: digest of the checkpoint.
        labels: the C genres, in the order of the logits.
        config: what to fit.

    Raises:
        ConfigError: fewer than MIN_TRACKS tracks.
    """
    if len(tracks) < MIN_TRACKS:
        raise ConfigError(f"{len(tracks)} valid tracks are too few: {MIN_TRACKS} are needed")
    fitted = _fit(tracks, digest, labels, config)
    most = max(tracks.logits)
    logits = [fitted.standardised(each) for each in tracks.logits[most]]
    probabilities = track_probabilities(logits, fitted.windows[most].temperature)
    confusions = find_confusions(probabilities.argmax(axis=1), tracks.labels, labels.names)
    return replace(fitted, confusions=confusions)


def representative(tracks: Tracks) -> Tracks:
    """The tracks of unseen collections, where there are enough; else all tracks."""
    unseen = tracks.take(tracks.unseen)
    enough = len(unseen) >= MIN_TRACKS and unseen.n_collections >= MIN_COLLECTIONS
    return unseen if enough else tracks


def _fit(tracks: Tracks, digest: str, labels: LabelSet, config: CalibrationConfig) -> Calibration:
    groups = sorted(set(tracks.groups))
    tracks = representative(tracks)
    # tracks of a few collections, such as somebody's own library, stand for others of these
    is_unseen = bool(tracks.unseen.all()) and tracks.n_collections >= MIN_COLLECTIONS
    weights = collection_weights(tracks) if is_unseen else None
    means, deviations = _usual_logits(tracks) if config.standardise else ((), ())
    tracks = tracks.standardised(means, deviations)
    temperatures = {
        n: round(fit_temperature(logits, tracks.labels, weights), 4)
        for n, logits in tracks.logits.items()
    }
    floor = _fit_shared_floor(tracks, temperatures, weights) if config.with_floor else 0.0
    fit = _WindowFit(tracks, labels, floor, config.review_accuracy, weights)
    where = f" of {tracks.n_collections} collections not trained on" if is_unseen else ""
    return Calibration(
        windows={n: fit.at(n, temperature) for n, temperature in temperatures.items()},
        checkpoint_digest=digest,
        dataset=f"{len(tracks)} valid tracks{where}: " + ", ".join(sorted(set(tracks.sources))),
        n_tracks=len(tracks),
        n_collections=tracks.n_collections if is_unseen else 0,
        date=datetime.now(UTC).date().isoformat(),
        floor=floor,
        review_accuracy=config.review_accuracy,
        groups=groups,
        means=means,
        deviations=deviations,
    )


def _usual_logits(tracks: Tracks) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each genre's logit over the tracks."""
    of_tracks = np.stack([each.mean(axis=0) for each in tracks.logits[max(tracks.logits)]])
    # 1e-3: a genre whose logit never moves stays where it is
    deviations = np.maximum(of_tracks.std(axis=0), 1e-3)
    rounded = [
        np.round(each.astype(np.float64), 5).tolist() for each in (of_tracks.mean(0), deviations)
    ]
    return tuple(rounded[0]), tuple(rounded[1])


@dataclass(frozen=True, slots=True, eq=False)
class _WindowFit:
    """What all numbers of windows are fitted on.

    Attributes:
        tracks: K tracks.
        labels: the C genres.
        floor: probability spread evenly over them.
        target: accuracy wanted among the answers that nobody reviews.
        weights: (K,) with which every collection counts the same; None where tracks do.
    """

    tracks: Tracks
    labels: LabelSet
    floor: float
    target: float
    weights: npt.NDArray[np.float64] | None

    def at(self, n: int, temperature: float) -> WindowCalibration:
        """Everything that depends on the calibrated probabilities, for n windows per track."""
        truth, weights = self.tracks.labels, self.weights
        probabilities = track_probabilities(self.tracks.logits[n], temperature, self.floor)
        correct = probabilities.argmax(axis=1) == truth
        confidence = probabilities.max(axis=1)
        threshold = review_threshold(confidence, correct, self.target, weights)
        collections = None if weights is None else self.tracks.collections
        fitted = WindowCalibration(
            temperature=temperature,
            nll=round(negative_log_likelihood(probabilities, truth, weights), 4),
            ece=round(adaptive_ece(probabilities, truth), 4),
            quantiles={
                method: fit_quantiles(true_scores(probabilities, truth, method), collections)
                for method in SET_METHODS
            },
            # rounded up: rounding down would accept a track below the threshold
            review_threshold=math.ceil(threshold * 1e4) / 1e4,
            family_threshold=self._family_threshold(probabilities, confidence < threshold),
            confidence_deciles=tuple(
                round(float(x), 4) for x in np.percentile(confidence, range(10, 100, 10))
            ),
        )
        return with_limits(fitted, self.tracks, n, weights)

    def _family_threshold(
        self, probabilities: Probabilities, unsure: npt.NDArray[np.bool_]
    ) -> float:
        """The family's probability from which it is as reliable as an answer without review.

        Fitted on the tracks whose genre is not sure: only there is a family shown.
        """
        of_families, family = family_probabilities(probabilities[unsure], self.labels)
        if not len(of_families):
            return 1.0
        correct = of_families.argmax(axis=1) == family[self.tracks.labels[unsure]]
        weights = None if self.weights is None else self.weights[unsure]
        threshold = review_threshold(of_families.max(axis=1), correct, self.target, weights)
        return math.ceil(threshold * 1e4) / 1e4


def apply_calibration(
    tracks: Tracks,
    labels: LabelSet,
    calibration: Calibration,
    n_windows: int,
    coverage: float,
    method: SetMethod = "lac",
) -> Calibrated:
    """Apply a calibration: probabilities, prediction sets and review decisions of all tracks.

    Args:
        tracks: K tracks to calibrate.
        labels: the C genres, in the order of the logits.
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
    logits = [calibration.standardised(each) for each in tracks.logits[n_windows]]
    probabilities = track_probabilities(logits, fitted.temperature, calibration.floor)
    of_families = family_probabilities(probabilities, labels)[0].max(axis=1)
    return Calibrated(
        probabilities=probabilities,
        sets=prediction_sets(probabilities, quantile, method),
        accepted=probabilities.max(axis=1) >= _or_one(fitted.review_threshold),
        families=of_families >= _or_one(fitted.family_threshold),
    )


def _or_one(threshold: float | None) -> float:
    return 1.0 if threshold is None else threshold


def cross_fit(
    tracks: Tracks,
    labels: LabelSet,
    n_windows: int,
    coverage: float,
    config: CalibrationConfig,
    unique: npt.NDArray[np.bool_] | None = None,
    folds: npt.NDArray[np.int64] | None = None,
) -> Calibrated:
    """Cross-fit: calibrate each fold of the tracks with a fit on the other folds.

    No unseen collection is in two folds; the others are divided by group.

    Args:
        tracks: K tracks.
        labels: the C genres, in the order of the logits.
        n_windows: windows evaluated per track.
        coverage: coverage of the prediction sets, a multiple of 0.01 from 0.5 to 0.99.
        config: what to fit.
        unique: (K,) whether to fit on each track; all by default. Exclude repeats here, otherwise
            a recording that two data sets have counts twice.
        folds: (K,) number of each track's fold; None for `group_folds`.

    Raises:
        ConfigError: all tracks are of one group, or there are too few for that coverage.
    """
    folds = group_folds(tracks, seed=0) if folds is None else folds
    parts: list[tuple[npt.NDArray[np.bool_], Calibrated]] = []
    for number in np.unique(folds):
        chosen = folds == number
        others = ~chosen if unique is None else ~chosen & unique
        fitted = _fit(tracks.take(others), "", labels, config)
        parts.append(
            (chosen, apply_calibration(tracks.take(chosen), labels, fitted, n_windows, coverage))
        )
    n_classes = parts[0][1].probabilities.shape[1]
    whole = Calibrated(
        probabilities=np.empty((len(tracks), n_classes)),
        sets=np.empty((len(tracks), n_classes), bool),
        accepted=np.empty(len(tracks), bool),
        families=np.empty(len(tracks), bool),
    )
    for chosen, part in parts:
        whole.probabilities[chosen] = part.probabilities
        whole.sets[chosen] = part.sets
        whole.accepted[chosen] = part.accepted
        whole.families[chosen] = part.families
    return whole


def _fit_shared_floor(
    tracks: Tracks,
    temperatures: dict[int, float],
    weights: npt.NDArray[np.float64] | None,
) -> float:
    """Fit one floor for all numbers of windows: the mean of the best floor of each number."""
    floors = [
        fit_floor(track_probabilities(logits, temperatures[n]), tracks.labels, weights)
        for n, logits in tracks.logits.items()
    ]
    return round(float(np.mean(floors)), 4)
