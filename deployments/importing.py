"""Foreign weights and a front-end file → a checkpoint folder."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.checkpoint import load_checkpoint, save_checkpoint
from acoustic.classify.foreign import import_vit, load_state
from acoustic.classify.normalise import Scaling
from acoustic.errors import CheckpointError
from acoustic.geometry import MelConfig
from acoustic.labels import GENRES, Label, LabelSet
from acoustic.postprocess.calibration import Calibration, WindowCalibration, save_calibration
from deployments.config import read_yaml
from deployments.strict import parse_strict


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontEnd:
    """What the weights of another library do not state: genres, geometry, normalisation."""

    labels: list[str]
    mel: MelConfig
    scaling: Scaling


def import_checkpoint(weights: Path, out: Path, front_end: Path, name: str) -> str:
    """Write a checkpoint folder from foreign weights; returns its digest.

    Raises:
        CheckpointError: the weights are not a ViT or do not fit the front end, or `out` exists.
        ConfigError: the front end's file cannot be used.
    """
    if out.exists():
        raise CheckpointError(f"{out} exists already: choose a new folder")
    settings = parse_strict(FrontEnd, read_yaml(front_end), front_end.name)
    shape = settings.scaling.resize_to or (settings.mel.n_mels, settings.mel.n_frames)
    model = import_vit(load_state(weights), input_shape=shape)
    if model.config.n_classes != len(settings.labels):
        raise CheckpointError(
            f"the weights have {model.config.n_classes} classes, {front_end.name} has "
            f"{len(settings.labels)} labels"
        )
    manifest = save_checkpoint(
        out,
        name=name,
        version="imported",
        model=model,
        labels=LabelSet(_known_label(label) for label in settings.labels),
        mel=settings.mel,
        scaling=settings.scaling,
    )
    calibration = Calibration(
        windows={1: WindowCalibration(temperature=1.0)},
        checkpoint_digest=manifest.digest,
        dataset="none: not calibrated",
        n_tracks=0,
        date=datetime.now(UTC).date().isoformat(),
    )
    save_calibration(out, calibration)
    load_checkpoint(CheckpointFolder.open(out))
    return manifest.digest


def _known_label(name: str) -> Label:
    """With aliases and parent, where it is one of the guide's genres."""
    return next((label for label in GENRES.labels if label.name == name), Label(name=name))
