"""A checkpoint folder, opened once and handed to the three stages.

Read without torch, because the preprocessing stage needs the model's geometry and must stay
small. The folder:

    config.json              everything about the model but its weights: `Manifest`
    model.safetensors        weights; their SHA-256 is in config.json
    calibration.json         what stage 3 needs
    neighbours.safetensors   features of training windows, for distances
    README.md                model card
    training.json            how it was trained, on how much, by which groups
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acoustic.digest import config_digest
from acoustic.errors import CheckpointError
from acoustic.geometry import MelConfig
from acoustic.labels import Label, LabelSet

FORMAT_VERSION = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CALIBRATION_FILE = "calibration.json"
CARD_FILE = "README.md"
TRAINING_FILE = "training.json"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Manifest:
    """The content of config.json.

    Attributes:
        name: name of the model.
        version: version of the weights.
        labels: the C genres, in the order of the logits.
        mel: geometry that the model was trained on.
        architecture: fields of the model's own config.
        scaling: fields of the input normalisation.
        weights_sha256: hex digest of model.safetensors.
        styles: fields of the model's own labels, where the genres are a summary of them; None
            where the head's labels are the genres.
        source: where imported weights are from and under which licence: "name", "licence" and
            "non_commercial"; {} for own weights.
    """

    name: str
    version: str
    labels: LabelSet
    mel: MelConfig
    architecture: dict[str, Any]
    scaling: dict[str, Any]
    weights_sha256: str
    styles: dict[str, Any] | None = None
    source: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """12 hex digits that change with the weights or anything above."""
        return config_digest(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of config.json."""
        return {
            "format": FORMAT_VERSION,
            "name": self.name,
            "version": self.version,
            "labels": [label.to_dict() for label in self.labels.labels],
            "mel": self.mel.to_dict(),
            "architecture": self.architecture,
            "scaling": self.scaling,
            "weights_sha256": self.weights_sha256,
            # later fields: absent where unused, so that the digests of older checkpoints stay
            **({"styles": self.styles} if self.styles is not None else {}),
            **({"source": self.source} if self.source else {}),
        }


@dataclass(frozen=True, slots=True, eq=False)
class CheckpointFolder:
    """An opened checkpoint folder.

    Attributes:
        path: the folder.
        manifest: content of its config.json.
    """

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path | str) -> CheckpointFolder:
        """Read and check config.json; the other files are read when they are needed.

        Args:
            path: the folder.

        Raises:
            CheckpointError: config.json is missing, not JSON, of another format version, or has
                fields that are missing, unknown or out of range.
        """
        path = Path(path)
        content = read_json_object(path, CONFIG_FILE)
        version = content.pop("format", None)
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"{CONFIG_FILE} of {path.name!r} has format {version}, this release reads format "
                f"{FORMAT_VERSION}: train or import the checkpoint again"
            )
        try:
            labels = [
                Label(name=item["name"], aliases=tuple(item["aliases"]), parent=item["parent"])
                for item in content.pop("labels")
            ]
            mel = MelConfig(**content.pop("mel"))
            return cls(path, Manifest(labels=LabelSet(labels), mel=mel, **content))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(
                f"{CONFIG_FILE} of {path.name!r} cannot be used: {error}"
            ) from error

    @property
    def digest(self) -> str:
        """Digest of the manifest, which names the model in every answer."""
        return self.manifest.digest

    @property
    def labels(self) -> LabelSet:
        """The C genres, in the order of the logits."""
        return self.manifest.labels

    @property
    def mel(self) -> MelConfig:
        """Geometry of the front end."""
        return self.manifest.mel

    def has(self, name: str) -> bool:
        """Whether a file of that name is there."""
        return (self.path / name).exists()

    def read_json(self, name: str) -> dict[str, Any]:
        """The JSON object in a file of the folder.

        Raises:
            CheckpointError: missing, unreadable or not a JSON object.
        """
        return read_json_object(self.path, name)


def read_json_object(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of a model's folder.

    Raises:
        CheckpointError: missing, unreadable or not a JSON object.
    """
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        advice = ": run `acousticsense calibrate`" if name == CALIBRATION_FILE else ""
        raise CheckpointError(f"checkpoint {folder.name!r} has no {name}{advice}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{name} of checkpoint {folder.name!r} cannot be read") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{name} of checkpoint {folder.name!r} is not a JSON object")
    return content
