"""Re-test all claims of the guide: results in one JSON-ready dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.checkpoint import load_checkpoint
from acoustic.data.dataset import Dataset
from acoustic.data.groups import refuse_trained_on, without_repeats
from acoustic.data.outliers import Outlier
from acoustic.data.unseen import trained_collections
from acoustic.errors import ConfigError
from acoustic.evaluation.baselines import one_spectrogram, svm_margins
from acoustic.fitting.calibrate import CalibrationConfig, cross_fit
from acoustic.fitting.rule_fit import describe_clips
from acoustic.fitting.tracks import evaluate_clips, open_engine
from acoustic.pipeline import Pipeline
from acoustic.postprocess.calibration import load_calibration
from acoustic.postprocess.rules import Rule, fitting
from acoustic.preprocess.segments import WINDOWS_BY_EFFORT
from benchmarks.claims.accuracy import (
    Subject,
    ambiguous_claims,
    calibration_claims,
    measure_calibrations,
    measure_review,
    rule_claims,
)
from benchmarks.claims.enhancement import (
    enhancement_claims,
    evaluate_in_noise,
    summarise,
    training_gain,
)

N_WINDOWS = WINDOWS_BY_EFFORT["thorough"]
COVERAGE = 0.9
WITH_NOISE = "trained with noise"
WITHOUT_NOISE = "trained without noise"


@dataclass(frozen=True, kw_only=True, slots=True)
class Models:
    """The checkpoints that the claims are tested with.

    Attributes:
        folder: folder of the calibrated checkpoint that ships.
        without_noise: folder of a checkpoint trained without noise by the same recipe, or None.
    """

    folder: Path
    without_noise: Path | None = None


def retest(
    models: Models, dataset: Dataset, outliers: Sequence[Outlier], guide_rules: Sequence[Rule]
) -> dict[str, Any]:
    """Measure every claim.

    Args:
        models: which checkpoints.
        dataset: valid clips to test on, train clips for the model that says what is ambiguous.
        outliers: held-out sounds for noise; may be empty.
        guide_rules: the guide's rules.

    Raises:
        CheckpointError: a checkpoint cannot be used.
        ConfigError: no train or valid clip, one that the model was trained on, or checkpoints
            that do not belong together.
    """
    valid = without_repeats(dataset.split("valid"))
    if not valid or not dataset.split("train"):
        raise ConfigError("the claims need train and valid recordings")
    folder = CheckpointFolder.open(models.folder)
    refuse_trained_on(folder, valid)
    subject = _subject(folder, dataset, guide_rules)
    answers = evaluate_in_noise(_pipelines(models), valid, outliers)
    claims = [*enhancement_claims(answers), *ambiguous_claims(subject)]
    if models.without_noise:
        claims.append(training_gain(answers, WITH_NOISE, WITHOUT_NOISE))
    claims += [*calibration_claims(subject), *rule_claims(subject)]
    manifest = folder.manifest
    return {
        "checkpoint": {
            "name": manifest.name,
            "version": manifest.version,
            "digest": manifest.digest,
        },
        "date": datetime.now(UTC).date().isoformat(),
        "n_tracks": len(valid),
        "n_audio": sum(clip.path is not None for clip in valid),
        "claims": [claim.to_dict() for claim in claims],
        "noise": summarise(answers),
        "calibrations": measure_calibrations(subject),
        "review": measure_review(subject),
    }


def _subject(folder: CheckpointFolder, dataset: Dataset, guide_rules: Sequence[Rule]) -> Subject:
    checkpoint = load_checkpoint(folder)
    calibration = load_calibration(folder)
    valid = without_repeats(dataset.split("valid"))
    trained = trained_collections(folder)
    tracks = evaluate_clips(open_engine(checkpoint, 1), valid, trained=trained)
    target = calibration.review_accuracy or CalibrationConfig().review_accuracy
    mel = checkpoint.manifest.mel
    config = CalibrationConfig(review_accuracy=target, with_floor=calibration.floor > 0)
    return Subject(
        tracks=tracks,
        calibrated=cross_fit(tracks, dataset.labels, N_WINDOWS, COVERAGE, config),
        descriptors=describe_clips(valid, checkpoint.manifest.mel, 3),
        margins=svm_margins(
            one_spectrogram(dataset.split("train"), mel),
            one_spectrogram(valid, mel),
            mel.sample_rate / mel.hop_length,
        ),
        labels=dataset.labels,
        guide_rules=fitting(guide_rules, dataset.labels),
        review_accuracy=target,
    )


def _pipelines(models: Models) -> dict[str, Pipeline]:
    pipelines = {WITH_NOISE: Pipeline.from_folder(models.folder)}
    if models.without_noise is None:
        return pipelines
    other = Pipeline.from_folder(models.without_noise)
    one = pipelines[WITH_NOISE]
    if (
        other.preprocessor.config != one.preprocessor.config
        or other.postprocessor.labels.names != one.postprocessor.labels.names
    ):
        raise ConfigError(
            f"{models.without_noise.name} has another front end or other genres: "
            "train it with the same settings, except noise"
        )
    return {**pipelines, WITHOUT_NOISE: other}
