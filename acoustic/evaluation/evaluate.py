"""Evaluate a checkpoint: all measures in one JSON-ready dictionary."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.checkpoint import Checkpoint, load_checkpoint
from acoustic.classify.engine import Engine
from acoustic.data.dataset import Clip, Dataset
from acoustic.data.groups import refuse_trained_on, without_repeats
from acoustic.data.outliers import Outlier
from acoustic.data.unseen import is_published, report_unseen, trained_collections
from acoustic.errors import CheckpointError, ConfigError, InvalidOptionError
from acoustic.evaluation.baselines import measure_baselines
from acoustic.evaluation.faults import N_CASES, measure_faults
from acoustic.evaluation.measure import (
    measure,
    measure_auto,
    measure_calibration,
    measure_outliers,
    measure_windows,
)
from acoustic.evaluation.parity import measure_parity
from acoustic.evaluation.robustness import measure_robustness
from acoustic.fitting.calibrate import (
    Calibrated,
    CalibrationConfig,
    apply_calibration,
    cross_fit,
    fit_config,
)
from acoustic.fitting.intervals import leave_one_out_folds
from acoustic.fitting.temperature import track_probabilities
from acoustic.fitting.tracks import Tracks, evaluate_clips, evaluate_recording, open_engine
from acoustic.labels import LabelSet
from acoustic.pipeline import Pipeline
from acoustic.postprocess.calibration import Calibration, Probabilities, load_calibration
from acoustic.preprocess.segments import WINDOWS_BY_EFFORT
from acoustic.request import check_coverage

logger = logging.getLogger(__name__)

N_WINDOWS = WINDOWS_BY_EFFORT["thorough"]
CNN_CROPS = 60_000


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """What to measure.

    Attributes:
        coverage: coverage of the prediction sets, a multiple of 0.01 from 0.5 to 0.99.
        with_baselines: whether to fit the baselines on the train clips.
        with_corruptions: whether to run the corruption grid and the faults on clips with audio.
        cnn_crops: number of crops that the small CNN is trained on; 0 leaves the CNN out.
        leave_collection_out: whether each unseen collection is answered with a calibration fitted
            on all others, instead of a fifth of them at a time, and listed by itself.
        fault_cases: cases made per fault to measure how often its reason is raised.
        n_threads: CPU threads of the engine; of robustness and faults, tracks at the same time.
    """

    coverage: float = 0.9
    with_baselines: bool = True
    with_corruptions: bool = True
    cnn_crops: int = CNN_CROPS
    leave_collection_out: bool = False
    fault_cases: int = N_CASES
    n_threads: int = 1

    def __post_init__(self) -> None:
        try:
            check_coverage(self.coverage)
        except InvalidOptionError as error:
            raise ValueError(error.message) from error


def evaluate(
    folder: CheckpointFolder,
    dataset: Dataset,
    outliers: Sequence[Outlier],
    config: EvaluationConfig,
) -> dict[str, Any]:
    """Measure a calibrated checkpoint on the valid clips.

    Args:
        folder: checkpoint folder.
        dataset: clips with the checkpoint's labels; train clips are for the baselines only.
        outliers: held-out non-music sounds; may be empty.
        config: what to measure.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ConfigError: no clip in the valid split, or one of a group that the model was trained on.
    """
    checkpoint = load_checkpoint(folder)
    calibration = load_calibration(folder)
    if not calibration.is_fitted:
        raise CheckpointError(
            f"checkpoint {folder.path} is not calibrated: run `acousticsense calibrate` first"
        )
    valid = dataset.clips if is_published(folder) else dataset.split("valid")
    if not valid:
        raise ConfigError("the valid split has no recordings to evaluate on")
    refuse_trained_on(folder, valid)
    engine = open_engine(checkpoint, config.n_threads)
    evaluated = _evaluate_valid(engine, valid, folder, calibration, config)
    report: dict[str, Any] = {
        "checkpoint": _identity(checkpoint),
        "date": datetime.now(UTC).date().isoformat(),
        "windows": N_WINDOWS,
        "coverage": config.coverage,
        "review_accuracy": calibration.review_accuracy,
        "cross_fitted": evaluated.cross_fitted,
        "skipped": len(dataset.skipped),
        **_measure_tracks(evaluated, dataset.labels, calibration),
        "collections": _measure_collections(evaluated, dataset.labels),
    }
    report["each_collection"] = []
    if config.leave_collection_out:
        report["each_collection"] = _measure_each(evaluated, valid)
    if config.with_baselines and not folder.mel.is_absolute:  # they are made for decibels
        report["baselines"] = measure_baselines(dataset, checkpoint, N_WINDOWS, config.cnn_crops)
    if outliers:
        music = evaluated.calibrated.take(evaluated.unique).probabilities
        found, log_odds = _evaluate_outliers(engine, outliers, calibration)
        of_music = evaluated.tracks.take(evaluated.unique).music.get(N_WINDOWS)
        report["outliers"] = measure_outliers(
            music, found, [each.kind for each in outliers],
            None if of_music is None or log_odds is None else (of_music, log_odds),
        )  # fmt: skip
    pipeline = Pipeline.from_folder(folder)
    report["parity"] = measure_parity(pipeline, valid)
    if config.with_corruptions and any(clip.path for clip in valid):
        report["robustness"] = measure_robustness(pipeline, valid, outliers, config.n_threads)
        report["reasons"] = measure_faults(
            pipeline, without_repeats(valid), outliers, config.fault_cases, config.n_threads
        )
    return report


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Evaluated:
    """All valid tracks, calibrated with a fit on other tracks.

    Attributes:
        tracks: K tracks.
        unique: (K,) False for recordings that an earlier data set has too.
        calibrated: calibrated answers of the K tracks.
        cross_fitted: whether they are cross-fitted; else the checkpoint's calibration is applied.
        how_unseen: what they say about music from elsewhere, in words.
    """

    tracks: Tracks
    unique: npt.NDArray[np.bool_]
    calibrated: Calibrated
    cross_fitted: bool
    how_unseen: str


def _evaluate_valid(
    engine: Engine,
    valid: Sequence[Clip],
    folder: CheckpointFolder,
    calibration: Calibration,
    config: EvaluationConfig,
) -> _Evaluated:
    """Evaluate tracks; cross-fit if the calibration was fitted on any of their groups."""
    trained = trained_collections(folder)
    tracks = evaluate_clips(engine, valid, trained=trained)
    labels, coverage = folder.labels, config.coverage
    once = {id(clip) for clip in without_repeats(valid)}
    unique = np.array([id(clip) in once for clip in valid])
    seen = bool(set(tracks.groups) & set(calibration.groups))
    if seen or config.leave_collection_out:
        target = calibration.review_accuracy or CalibrationConfig().review_accuracy
        fit = fit_config(folder, review_accuracy=target, with_floor=calibration.floor > 0)
        folds = leave_one_out_folds(tracks) if config.leave_collection_out else None
        calibrated = cross_fit(tracks, labels, N_WINDOWS, coverage, fit, unique, folds)
    else:
        calibrated = apply_calibration(tracks, labels, calibration, N_WINDOWS, coverage)
    return _Evaluated(
        tracks=tracks,
        unique=unique,
        calibrated=calibrated,
        cross_fitted=seen,
        how_unseen=report_unseen([clip.collection for clip in valid], trained),
    )


def _measure_tracks(
    evaluated: _Evaluated, labels: LabelSet, calibration: Calibration
) -> dict[str, Any]:
    """All measures of the valid tracks, pooled (each recording once) and per data set."""
    tracks, unique = evaluated.tracks, evaluated.unique
    raw = track_probabilities(tracks.take(unique).logits[N_WINDOWS], 1.0)
    standard = tracks.standardised(calibration.means, calibration.deviations)
    sources = {}
    for source in sorted(set(tracks.sources)):
        chosen = tracks.sources == source
        part = tracks.take(chosen)
        sources[source] = {
            **measure(evaluated.calibrated.take(chosen), part.labels, labels),
            "by_windows": measure_windows(standard.take(chosen), calibration),
        }
        logger.info("evaluated data set %s, %d tracks", source, int(chosen.sum()))
    return {
        "pooled": measure(evaluated.calibrated.take(unique), tracks.labels[unique], labels),
        "auto": measure_auto(standard.take(unique), calibration),
        "uncalibrated": measure_calibration(raw, tracks.labels[unique]),
        "sources": sources,
    }


def _measure_collections(evaluated: _Evaluated, labels: LabelSet) -> dict[str, Any]:
    """Tracks of collections that were not trained on, beside those of collections that were."""
    tracks, unique = evaluated.tracks, evaluated.unique
    found: dict[str, Any] = {"summary": evaluated.how_unseen}
    for name, chosen in (("unseen", unique & tracks.unseen), ("seen", unique & ~tracks.unseen)):
        part = tracks.take(chosen)
        found[name] = (
            measure(
                evaluated.calibrated.take(chosen), part.labels, labels,
                part.collections if name == "unseen" else None,
            )
            if chosen.any()
            else None
        )  # fmt: skip
    return found


def _measure_each(evaluated: _Evaluated, valid: Sequence[Clip]) -> list[dict[str, Any]]:
    """One row per unseen collection, each calibrated by a fit on the others."""
    tracks, answers = evaluated.tracks, evaluated.calibrated
    names = np.array([clip.collection for clip in valid])
    right = answers.probabilities.argmax(axis=1) == tracks.labels
    covered = answers.sets[np.arange(len(tracks)), tracks.labels]
    rows = []
    for name in sorted(set(names[tracks.unseen & evaluated.unique])):
        chosen = (names == name) & evaluated.unique
        rows.append(
            {
                "collection": name,
                "n_tracks": int(chosen.sum()),
                "accuracy": round(float(right[chosen].mean()), 4),
                "confidence": round(float(answers.probabilities[chosen].max(axis=1).mean()), 4),
                "covered": round(float(covered[chosen].mean()), 4),
                "accepted": round(float(answers.accepted[chosen].mean()), 4),
            }
        )
    return rows


def _evaluate_outliers(
    engine: Engine, outliers: Sequence[Outlier], calibration: Calibration
) -> tuple[Probabilities, npt.NDArray[np.float32] | None]:
    """Probabilities of non-music sounds, and their log-odds of music if the model has them."""
    found = [evaluate_recording(engine, each.log_mel, N_WINDOWS, None) for each in outliers]
    temperature = calibration.at(N_WINDOWS).temperature
    logits = [calibration.standardised(each.logits) for each in found]
    probabilities = track_probabilities(logits, temperature, calibration.floor)
    if found[0].music is None:
        return probabilities, None
    return probabilities, np.array([each.music for each in found], np.float32)


def _identity(checkpoint: Checkpoint) -> dict[str, Any]:
    manifest = checkpoint.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest,
        "n_parameters": sum(p.numel() for p in checkpoint.model.parameters()),
        "labels": list(manifest.labels.names),
        "window_s": round(manifest.mel.window_s, 2),
    }
