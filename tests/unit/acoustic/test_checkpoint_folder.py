"""A checkpoint folder: its digest follows the manifest; every fault of its JSON is one error."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from acoustic.checkpoint_folder import CALIBRATION_FILE, CONFIG_FILE, CheckpointFolder, Manifest
from acoustic.errors import CheckpointError
from acoustic.geometry import MelConfig
from acoustic.labels import GENRES, Label, LabelSet

MANIFEST = Manifest(
    name="made",
    version="1",
    labels=GENRES,
    mel=MelConfig(),
    architecture={"depth": 2},
    scaling={"mean_db": -30.0},
    weights_sha256="0" * 64,
)
OTHER: dict[str, Any] = {
    "name": "other",
    "version": "2",
    "labels": LabelSet([Label(name="Jazz"), Label(name="Rock")]),
    "mel": MelConfig(n_mels=64),
    "architecture": {"depth": 3},
    "scaling": {"mean_db": -31.0},
    "weights_sha256": "1" * 64,
    "styles": {"output": "sigmoid", "names": ["a", "b"]},
    "source": {"name": "elsewhere"},
}


def written(folder: Path, content: Any) -> Path:
    folder.mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
    return folder


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    opened = CheckpointFolder.open(str(written(tmp_path / "m", MANIFEST.to_dict())))
    assert opened.manifest.to_dict() == MANIFEST.to_dict()
    assert opened.digest == MANIFEST.digest
    assert (opened.labels.names, opened.mel) == (GENRES.names, MelConfig())


@pytest.mark.parametrize("name", [field.name for field in fields(Manifest)])
def test_the_digest_follows_every_field(name: str) -> None:
    assert replace(MANIFEST, **{name: OTHER[name]}).digest != MANIFEST.digest


def test_the_digest_does_not_depend_on_where_the_folder_is(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(tiny_checkpoint, tmp_path / "renamed")
    assert CheckpointFolder.open(copied).digest == CheckpointFolder.open(tiny_checkpoint).digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "config.json of checkpoint 'm' cannot be read"),
        ("[1, 2]", "config.json of checkpoint 'm' is not a JSON object"),
        ({"name": "m"}, "has format None, this release reads format 1"),
        ({**MANIFEST.to_dict(), "labels": 5}, "config.json of 'm' cannot be used"),
        ({**MANIFEST.to_dict(), "labels": ["Jazz", "Rock"]}, "cannot be used"),
        ({**MANIFEST.to_dict(), "labels": [{"name": "Jazz"}] * 2}, "cannot be used: 'aliases'"),
        ({**MANIFEST.to_dict(), "mel": {"f_max": 20_000.0}}, "half the sample rate"),
    ],
)
def test_a_fault_of_the_json_is_a_checkpoint_error(
    tmp_path: Path, content: Any, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        CheckpointFolder.open(written(tmp_path / "m", content))


def test_bytes_that_are_not_text_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / CONFIG_FILE).write_bytes(b'{"name": "\xff"}')
    with pytest.raises(CheckpointError, match=r"config\.json of checkpoint .* cannot be read"):
        CheckpointFolder.open(tmp_path)


def test_a_missing_calibration_says_which_command_makes_it(tmp_path: Path) -> None:
    opened = CheckpointFolder.open(written(tmp_path / "m", MANIFEST.to_dict()))
    assert not opened.has(CALIBRATION_FILE)
    with pytest.raises(CheckpointError, match=r"no calibration\.json: run `acousticsense calibrat"):
        opened.read_json(CALIBRATION_FILE)
    with pytest.raises(CheckpointError, match=r"has no training\.json$"):
        opened.read_json("training.json")
