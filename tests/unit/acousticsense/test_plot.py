"""The picture of an answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from acousticsense.cli.main import app
from acousticsense.picture import peaks


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["plot", *map(str, arguments)])
    return result.exit_code, result.stdout + result.stderr


@pytest.mark.parametrize("effort", ["fast", "auto"])
def test_a_picture_names_the_genres_and_the_windows(
    music: Path, tiny_model: None, effort: str
) -> None:
    out = music / "a.svg"
    code, said = run(music / "a.wav", "--out", out, "--effort", effort)
    assert code == 0, said
    text = out.read_text()
    assert "<!-- a.wav: " in text
    assert "<!-- Jazz -->" in text
    assert "<image" in text
    assert text.count("%</text>") + text.count("% -->") >= (1 if effort == "fast" else 3)


def test_a_bitmap_is_the_default(
    music: Path, tiny_model: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(music)
    code, said = run("b.flac")
    assert code == 0
    assert said.startswith("b.flac.png: ")
    assert Path("b.flac.png").read_bytes().startswith(b"\x89PNG")


def test_mistakes_are_one_sentence(music: Path, tiny_model: None) -> None:
    assert "known endings are" in run(music / "a.wav", "--out", "a.txt")[1]
    code, said = run(music / "broken.mp3", "--out", music / "a.png")
    assert code == 2
    assert said.count("\n") == 1


def test_peaks_keep_the_loudest_sample() -> None:
    samples = np.zeros(10_001, np.float32)
    samples[7_003] = -0.75
    found = peaks(samples, 100)
    assert found.size <= 100
    assert found.max() == 0.75
    assert np.count_nonzero(found) == 1
    np.testing.assert_array_equal(peaks(np.float32([1, -2])), [1, 2])
