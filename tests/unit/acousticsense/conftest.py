"""A classifier with a tiny model, and a folder of sounds and other files."""

from __future__ import annotations

from pathlib import Path

import pytest

from acousticsense import Classifier
from tests.support.answers import RATE, WAV
from tests.support.sounds import encode, noise, sweep


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint: Path) -> Classifier:
    return Classifier(tiny_checkpoint)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.wav").write_bytes(WAV)
    (tmp_path / "b" / "broken.mp3").write_bytes(b"ID3 but nothing behind it")
    (tmp_path / "b" / "c.flac").write_bytes(encode(noise(20.0), RATE, "flac"))
    (tmp_path / "b" / "cover.jpg").write_bytes(b"not audio")
    return tmp_path


@pytest.fixture
def tiny_model(monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path) -> None:
    monkeypatch.setenv("ACOUSTICSENSE_CHECKPOINT", str(tiny_checkpoint))


@pytest.fixture
def music(tmp_path: Path) -> Path:
    folder = tmp_path / "music"
    folder.mkdir()
    (folder / "a.wav").write_bytes(encode(sweep(20.0), 22_050))
    (folder / "b.flac").write_bytes(encode(noise(20.0), 22_050, "flac"))
    (folder / "broken.mp3").write_bytes(b"ID3 but nothing behind it")
    (folder / "cover.jpg").write_bytes(b"")
    return folder
