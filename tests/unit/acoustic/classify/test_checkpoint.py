"""Checkpoint folders: round trip, and damage is detected."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.checkpoint import load_checkpoint, save_checkpoint
from acoustic.classify.normalise import Scaling
from acoustic.errors import CheckpointError
from acoustic.geometry import MelConfig
from acoustic.labels import GENRES
from acoustic.postprocess.calibration import load_calibration
from tests.support.models import tiny_model


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "copy"))


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    for dotted, value in changes.items():
        target = content
        *parents, key = dotted.split("__")
        for parent in parents:
            target = target[parent]
        target[key] = value
    path.write_text(json.dumps(content))


def test_round_trip(tiny_checkpoint: Path) -> None:
    checkpoint = load_checkpoint(CheckpointFolder.open(tiny_checkpoint))
    for name, tensor in tiny_model().state_dict().items():
        torch.testing.assert_close(checkpoint.model.state_dict()[name], tensor, rtol=0, atol=0)
    assert checkpoint.manifest.labels.labels == GENRES.labels
    assert not checkpoint.model.training


def test_the_digest_follows_the_weights_and_the_config(folder: Path) -> None:
    before = CheckpointFolder.open(folder).digest
    edit(folder, weights_sha256="0" * 64)
    after = CheckpointFolder.open(folder).digest
    assert before != after


def test_a_calibration_of_another_model_is_refused(folder: Path) -> None:
    edit(folder, version="another")
    with pytest.raises(CheckpointError, match=r"was fitted for model .*acousticsense calibrate"):
        load_calibration(CheckpointFolder.open(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "has format 99, this release reads format 1"),
        ({"labels": []}, "two labels"),
        ({"mel__n_mels": 64}, "front end produces 64 x 144"),
        ({"mel__n_melz": 64}, "cannot be used"),
        ({"architecture__depth": 3}, "do not fit"),
        ({"architecture__n_classes": 3}, "3 classes, but there are 16 labels"),
        ({"scaling__top_db": 60.0}, "top_db"),
        ({"surprise": 1}, "cannot be used"),
        ({"weights_sha256": "0" * 64}, "SHA-256"),
    ],
)
def test_a_config_that_cannot_work_is_refused(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    edit(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(CheckpointFolder.open(folder))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(CheckpointFolder.open(folder))


def test_a_flipped_bit_in_the_weights_is_noticed(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_checkpoint(CheckpointFolder.open(folder))


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.head.bias[3] = torch.nan
    save_checkpoint(
        tmp_path, name="nan", version="0", model=model, labels=GENRES, mel=MelConfig(),
        scaling=Scaling(),
    )  # fmt: skip
    with pytest.raises(CheckpointError, match=r"not finite, in head\.bias"):
        load_checkpoint(CheckpointFolder.open(tmp_path))
