"""A classifier with a tiny model, and a folder of sounds and other files."""

from __future__ import annotations

from pathlib import Path

import pytest

from acousticsense import Classifier
from tests.support.answers import RATE, WAV
from tests.support.sounds import encode, noise


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
