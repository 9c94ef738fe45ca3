"""`config.json` of a checkpoint folder: everything about a model but its weights.

Read without torch, because the preprocessing stage needs the model's geometry and must stay
small. The folder:

    config.json          this file
    model.safetensors    weights; their SHA-256 is in config.json
    calibration.json     what stage 3 needs
    neighbours.safetensors   features of training windows, for distances
    README.md            model card
    training.json        how it was trained, on how much, by which groups
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from acoustic.digest import config_digest
from acoustic.errors import CheckpointError
from acoustic.labels import Label, LabelSet
from acoustic.preprocess.mel import MelConfig

FORMAT_VERSION = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CALIBRATION_FILE = "calibration.json"
CARD_FILE = "README.md"
FACTS_FILE = "training.json"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Manifest:
    """What a checkpoint says of itself.

    Attributes:
        name: of the model. version: of the weights.
        labels: the C genres, in the order of the logits.
        mel: geometry that the model was trained on.
        architecture: fields of the model's own config.
        scaling: fields of the input normalisation.
        weights_sha256: hex digest of model.safetensors.
    """

    name: str
    version: str
    labels: LabelSet
    mel: MelConfig
    architecture: dict[str, Any]
    scaling: dict[str, Any]
    weights_sha256: str

    @property
    def digest(self) -> str:
        """12 hex digits that change with the weights or anything above."""
        return config_digest(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The content of config.json."""
        return {
            "format": FORMAT_VERSION,
            "name": self.name,
            "version": self.version,
            "labels": [label.to_dict() for label in self.labels.labels],
            "mel": asdict(self.mel),
            "architecture": self.architecture,
            "scaling": self.scaling,
            "weights_sha256": self.weights_sha256,
        }


def load_manifest(folder: Path) -> Manifest:
    """Read a checkpoint's config.json.

    Args:
        folder: the checkpoint.

    Raises:
        CheckpointError: missing, not JSON, of another format version, or with fields that are
            missing, unknown or out of range.
    """
    content = load_json(folder, CONFIG_FILE)
    if content.pop("format", None) != FORMAT_VERSION:
        raise CheckpointError(f"{CONFIG_FILE} is not of format {FORMAT_VERSION}")
    try:
        labels = [
            Label(name=item["name"], aliases=tuple(item["aliases"]), parent=item["parent"])
            for item in content.pop("labels")
        ]
        return Manifest(labels=LabelSet(labels), mel=MelConfig(**content.pop("mel")), **content)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{CONFIG_FILE} of {folder.name} cannot be used: {error}") from error


def load_json(folder: Path, name: str) -> dict[str, Any]:
    """One JSON object of a checkpoint folder.

    Raises:
        CheckpointError: missing, unreadable or not a JSON object.
    """
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{name} of checkpoint {folder.name!r} cannot be read") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{name} of checkpoint {folder.name!r} is no JSON object")
    return content
