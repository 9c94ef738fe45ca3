"""Recordings to judge a checkpoint by: none twice, none that it was trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from acoustic.checkpoint_folder import TRAINING_FILE
from acoustic.data.groups import group_hash
from acoustic.errors import CheckpointError, ConfigError
from acoustic.fitting.held_out import open_held_out
from acoustic.labels import GENRES
from tests.support.clips import write_manifest
from tests.support.models import save_tiny_checkpoint


def songs(folder: Path, prefix: str) -> Path:
    rows = [
        {
            "file": f"{i}.wav",
            "genre": ("Jazz", "Folk")[i % 2],
            "split": ("train", "valid")[i // 2],
            "group": f"{prefix} {i}",
            "track": f"song {i}",
        }
        for i in range(4)
    ]
    return write_manifest(folder, rows).parent


def test_a_recording_of_two_data_sets_is_held_out_once(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    data = [songs(tmp_path / "a", "a"), songs(tmp_path / "b", "b")]
    found = open_held_out(tiny_checkpoint, data)
    assert len(found.dataset.clips) == 8
    assert [clip.source for clip in found.valid] == ["a", "a"]
    assert [clip.source for clip in found.train] == ["a", "a"]
    assert found.dataset.labels.names == GENRES.names
    assert found.engine.input_shape == found.valid[0].log_mel[:, :144].shape


def test_recordings_that_the_model_was_trained_on_are_refused(tmp_path: Path) -> None:
    folder = save_tiny_checkpoint(tmp_path / "m")
    (folder / TRAINING_FILE).write_text(json.dumps({"train_groups": [group_hash("a 3")]}))
    with pytest.raises(ConfigError, match=r"1 of 2 valid recordings .* such as 'a 3'"):
        open_held_out(folder, [songs(tmp_path / "a", "a")])


def test_a_folder_that_is_not_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        open_held_out(tmp_path, [])
