"""Load and save the model of a checkpoint folder; weights as safetensors only."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from acoustic.checkpoint_folder import CONFIG_FILE, WEIGHTS_FILE, CheckpointFolder, Manifest
from acoustic.classify.normalise import Scaling
from acoustic.classify.style_head import StyleHead
from acoustic.classify.vit import VisionTransformer
from acoustic.classify.vit_config import VitConfig
from acoustic.errors import CheckpointError
from acoustic.geometry import MelConfig
from acoustic.labels import LabelSet
from acoustic.styles import Styles


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Checkpoint:
    """A loaded model with what it needs to be fed.

    Attributes:
        folder: the folder it was loaded from.
        model: model in evaluation mode, float32, on the CPU.
        scaling: conversion of windows to the model's input.
        styles: summary of the model's own labels, None if its labels are the genres.
    """

    folder: CheckpointFolder
    model: VisionTransformer
    scaling: Scaling
    styles: StyleHead | None = None

    @property
    def manifest(self) -> Manifest:
        """Content of the folder's config.json."""
        return self.folder.manifest


def load_checkpoint(folder: CheckpointFolder) -> Checkpoint:
    """Load a checkpoint folder and verify its weights.

    Args:
        folder: the opened checkpoint.

    Raises:
        CheckpointError: a file is missing or damaged, the digest differs, or weights, geometry and
            architecture do not fit each other.
    """
    manifest = folder.manifest
    try:
        config = VitConfig(**manifest.architecture)
        scaling = _scaling(manifest)
        styles = None if manifest.styles is None else Styles.from_dict(manifest.styles)
        head = None if styles is None else StyleHead(styles, manifest.labels)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{CONFIG_FILE} of {folder.path.name!r} cannot be used: {error}"
        ) from error
    _check_geometry(manifest, config, scaling, styles)
    model = VisionTransformer(config)
    try:
        model.load_state_dict(_load_weights(folder.path / WEIGHTS_FILE, manifest.weights_sha256))
    except RuntimeError as error:
        raise CheckpointError(f"the weights do not fit the architecture: {error}") from error
    return Checkpoint(folder=folder, model=model.eval(), scaling=scaling, styles=head)


def save_checkpoint(
    folder: Path,
    *,
    name: str,
    version: str,
    model: VisionTransformer,
    labels: LabelSet,
    mel: MelConfig,
    scaling: Scaling,
    half: bool = False,
    styles: Styles | None = None,
    source: dict[str, Any] | None = None,
) -> Manifest:
    """Write config.json and model.safetensors; the other files are written elsewhere.

    Args:
        folder: checkpoint folder; created if missing.
        name: name of the model.
        version: version of the weights.
        model: the network whose weights and architecture are stored.
        labels: the C genres, in the order of the model's logits.
        mel: geometry of the log-mel windows that the model was trained on.
        scaling: input normalisation that the model was trained with.
        half: store float16, half the size; every weight is rounded to 11 significant bits.
        styles: the model's own labels, where the genres are a summary of them.
        source: where imported weights are from; see `Manifest`.

    Returns:
        The manifest as written to config.json.
    """
    dtype = torch.float16 if half else torch.float32
    weights = {k: v.to(dtype).contiguous() for k, v in model.state_dict().items()}
    stored = save(weights, metadata={"format": "pt"})
    manifest = Manifest(
        name=name,
        version=version,
        labels=labels,
        mel=mel,
        architecture=asdict(model.config),
        scaling=asdict(scaling),
        weights_sha256=hashlib.sha256(stored).hexdigest(),
        styles=None if styles is None else _json_form(asdict(styles)),
        source=source or {},
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS_FILE).write_bytes(stored)
    text = json.dumps(manifest.to_dict(), indent=2, ensure_ascii=False)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
    return manifest


def _load_weights(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path.name} of {path.parent.name!r} cannot be read") from error
    # checked before parsing, and on the same bytes that are parsed
    found = hashlib.sha256(stored).hexdigest()
    if found != sha256:
        raise CheckpointError(
            f"{path.name} has SHA-256 {found[:12]}…, config.json expects {sha256[:12]}…"
        )
    try:
        # a half-precision file is widened: the engine chooses the precision
        weights = {name: tensor.float() for name, tensor in load(stored).items()}
    except SafetensorError as error:
        raise CheckpointError(f"{path.name} is not a safetensors file: {error}") from error
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path.name} has weights that are not finite, in {name}")
    return weights


def _scaling(manifest: Manifest) -> Scaling:
    fields = dict(manifest.scaling)
    if fields.get("resize_to") is not None:
        fields["resize_to"] = tuple(fields["resize_to"])
    return Scaling(**fields)


def _json_form(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}


def _check_geometry(
    manifest: Manifest, config: VitConfig, scaling: Scaling, styles: Styles | None
) -> None:
    expected = scaling.resize_to or (manifest.mel.n_mels, manifest.mel.n_frames)
    if expected != (config.input_height, config.input_width):
        raise CheckpointError(
            f"the front end produces {expected[0]} x {expected[1]} windows, but the model takes "
            f"{config.input_height} x {config.input_width}"
        )
    n_labels = len(manifest.labels if styles is None else styles.names)
    if config.n_classes != n_labels:
        raise CheckpointError(
            f"the model has {config.n_classes} classes, but there are {n_labels} labels"
        )
    if manifest.mel.is_absolute != (scaling.kind == "absolute"):
        raise CheckpointError(
            f"scaling {scaling.kind!r} does not fit the front end {manifest.mel.algorithm!r}"
        )
    if scaling.top_db != manifest.mel.top_db:
        raise CheckpointError(
            f"top_db must be equal: {manifest.mel.top_db} dB in mel, {scaling.top_db} dB in scaling"
        )
