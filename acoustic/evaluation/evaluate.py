"""The whole evaluation of a checkpoint, as one JSON-ready dictionary."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from acoustic.classify.checkpoint import Checkpoint, load_checkpoint
from acoustic.errors import ConfigError
from acoustic.evaluation.baselines import Predictions, majority, svm
from acoustic.evaluation.measure import (
    measure,
    measure_calibration,
    measure_listening,
    measure_outliers,
)
from acoustic.evaluation.metrics import bootstrap, macro_f1
from acoustic.evaluation.parity import measure_parity
from acoustic.evaluation.robustness import measure_robustness
from acoustic.labels import LabelSet
from acoustic.pipeline import Pipeline
from acoustic.postprocess.calibration import (
    Calibration,
    Logits,
    load_calibration,
    track_probabilities,
)
from acoustic.training.calibrate import (
    Calibrated,
    CalibrationConfig,
    apply_calibration,
    cross_fit,
)
from acoustic.training.dataset import Clip, Dataset
from acoustic.training.outliers import Outlier
from acoustic.training.small_cnn import small_cnn
from acoustic.training.tracks import (
    Tracks,
    hear,
    open_engine,
    refuse_trained_on,
    without_repeats,
)
from acoustic.training.validate import cut_windows

logger = logging.getLogger(__name__)

N_WINDOWS = 10
CNN_CROPS = 60_000


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """What to measure.

    Attributes:
        coverage: of the prediction sets, a multiple of 0.01 from 0.5 to 0.99.
        with_baselines: fit the baselines on the train clips.
        with_corruptions: run the corruption grid on clips with audio.
        cnn_crops: crops that the small CNN sees in training.
        n_threads: of the engine.
    """

    coverage: float = 0.9
    with_baselines: bool = True
    with_corruptions: bool = True
    cnn_crops: int = CNN_CROPS
    n_threads: int = 1

    def __post_init__(self) -> None:
        if not 0.5 <= self.coverage <= 0.99:
            raise ValueError(f"coverage is {self.coverage}, limits are 0.5 to 0.99")


def evaluate(
    folder: Path, dataset: Dataset, outliers: Sequence[Outlier], config: EvaluationConfig
) -> dict[str, Any]:
    """Measure a calibrated checkpoint on the valid clips.

    Tracks whose groups the calibration was fitted on are calibrated anew, each fold by the others;
    other tracks get the checkpoint's own calibration.

    Args:
        folder: the checkpoint.
        dataset: with its labels; train clips serve the baselines only.
        outliers: held-out sounds that are no music; may be empty.
        config: what to measure.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ConfigError: no valid clip, or one that the model was trained on.
    """
    checkpoint = load_checkpoint(folder)
    calibration = load_calibration(folder, checkpoint.manifest.digest)
    valid = dataset.split("valid")
    if not valid:
        raise ConfigError("there is no valid recording to evaluate on")
    refuse_trained_on(folder, valid)
    engine = open_engine(checkpoint, config.n_threads)
    tracks = hear(engine, valid)
    once = {id(clip) for clip in without_repeats(valid)}
    unique = np.array([id(clip) in once for clip in valid])
    seen = bool(set(tracks.groups) & set(calibration.groups))
    stage = _Stage3(calibration, seen, config)
    pooled = stage.calibrate(tracks.take(unique))
    report: dict[str, Any] = {
        "checkpoint": _identity(checkpoint),
        "date": datetime.now(UTC).date().isoformat(),
        "windows": N_WINDOWS,
        "coverage": config.coverage,
        "review_accuracy": calibration.review_accuracy,
        "cross_fitted": seen,
        "skipped": len(dataset.skipped),
        "pooled": measure(pooled, tracks.labels[unique], dataset.labels),
        "uncalibrated": measure_calibration(
            track_probabilities(tracks.take(unique).logits[N_WINDOWS], 1.0), tracks.labels[unique]
        ),
        "sources": {},
    }
    for source in sorted(set(tracks.sources)):
        chosen = tracks.sources == source
        part = tracks.take(chosen)
        report["sources"][source] = {
            **measure(stage.calibrate(part), part.labels, dataset.labels),
            "listening": measure_listening(part, calibration),
        }
        logger.info("%s accuracy %s", source, report["sources"][source]["accuracy"])
    if config.with_baselines:
        report["baselines"] = _baselines(dataset, checkpoint, config)
    if outliers:
        sounds = [_window_logits(engine.logits, o.log_mel, engine.input_shape[1]) for o in outliers]
        found = track_probabilities(sounds, calibration.temperature(N_WINDOWS), calibration.floor)
        kinds = [outlier.kind for outlier in outliers]
        report["outliers"] = measure_outliers(pooled.probabilities, found, kinds)
    pipeline = Pipeline.from_folder(folder)
    report["parity"] = measure_parity(pipeline, valid)
    if config.with_corruptions and any(clip.path for clip in valid):
        report["robustness"] = measure_robustness(pipeline, valid, outliers)
    return report


class _Stage3:
    """Calibrates tracks by the checkpoint's own fit, or by cross-fitting where it saw them."""

    def __init__(self, calibration: Calibration, seen: bool, config: EvaluationConfig) -> None:
        self._calibration = calibration
        self._seen = seen
        self._coverage = config.coverage

    def calibrate(self, tracks: Tracks) -> Calibrated:
        if not self._seen:
            return apply_calibration(tracks, self._calibration, N_WINDOWS, self._coverage)
        target = self._calibration.review_accuracy or CalibrationConfig().review_accuracy
        config = CalibrationConfig(review_accuracy=target, with_floor=self._calibration.floor > 0)
        return cross_fit(tracks, N_WINDOWS, self._coverage, config)


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


def _baselines(
    dataset: Dataset, checkpoint: Checkpoint, config: EvaluationConfig
) -> dict[str, dict[str, Any]]:
    """Each baseline, fitted on all train clips and measured per source."""
    rows: dict[str, dict[str, Any]] = {}
    train, valid = dataset.split("train"), dataset.split("valid")
    if not train:
        return rows
    answers = {"majority": majority(train, valid), "SVM on hand-made features": svm(train, valid)}
    if config.cnn_crops:
        answers["small CNN"] = small_cnn(
            train,
            valid,
            n_classes=len(dataset.labels),
            n_frames=checkpoint.manifest.mel.n_frames,
            scaling=checkpoint.scaling,
            n_crops=config.cnn_crops,
            n_windows=N_WINDOWS,
        )
    for name, predicted in answers.items():
        rows[name] = _baseline_row(predicted, valid, dataset.labels)
        logger.info("baseline %s %s", name, rows[name])
    return rows


def _baseline_row(
    predicted: Predictions, valid: Sequence[Clip], labels: LabelSet
) -> dict[str, Any]:
    truth = np.array([clip.label for clip in valid], np.int64)
    sources = np.array([clip.source for clip in valid])
    return {
        source: {
            "accuracy": bootstrap(
                lambda p, y: float((p == y).mean()), predicted[chosen], truth[chosen]
            ).to_dict(),
            "macro_f1": bootstrap(macro_f1, predicted[chosen], truth[chosen]).to_dict(),
        }
        for source in sorted(set(sources))
        for chosen in [sources == source]
    }


def _window_logits(forward: Any, log_mel: Any, n_frames: int) -> Logits:
    out: Logits = forward(cut_windows(log_mel, n_frames, N_WINDOWS))
    return out
