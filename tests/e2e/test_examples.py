"""Every example runs."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

from acoustic.example import example_wav
from tests.e2e.conftest import Service
from tests.support.paths import ROOT
from tests.support.sounds import encode, noise, tone

EXAMPLES = ROOT / "examples"
N_SONGS = 110
"""A fifth is held out, of which calibration needs 20."""


def test_the_http_client_sends_several_files(service: Service, tmp_path: Path) -> None:
    (tmp_path / "chord.wav").write_bytes(example_wav(20.0))
    (tmp_path / "broken.mp3").write_bytes(b"not audio")
    command = [sys.executable, EXAMPLES / "http_client.py", service.url]
    files = [tmp_path / "chord.wav", tmp_path / "broken.mp3"]
    result = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stderr  # a file failed
    chord, broken = result.stdout.splitlines()
    assert chord.startswith("chord.wav: ")
    assert "%" in chord
    assert broken.startswith("broken.mp3: the bytes are not a known audio format")


def test_retraining_from_a_folder_to_answers(tmp_path: Path) -> None:
    for i in range(N_SONGS):
        genre = ("Jazz", "Rock")[i % 2]
        path = tmp_path / "songs" / genre / f"band {i}" / "song.wav"
        path.parent.mkdir(parents=True)
        sound = tone(300 + 3 * i, 6.5) if genre == "Jazz" else noise(6.5, level=0.3, seed=i)
        path.write_bytes(encode(sound, 22_050))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        [EXAMPLES / "retrain.sh", "songs", "model", "--crops", "96", "--threads", "1"],
        cwd=tmp_path, env={**os.environ, "PATH": path}, check=True, capture_output=True,
    )  # fmt: skip
    assert (tmp_path / "model" / "calibration.json").exists()
    assert "## Accuracy" in (tmp_path / "model-report" / "evaluation.md").read_text()
    answers = (tmp_path / "model-answers.csv").read_text().splitlines()
    assert len(answers) == 1 + N_SONGS


def run_example(name: str, *arguments: object) -> str:
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_examples_of_one_process_run(tmp_path: Path) -> None:
    assert "%" in run_example("classify_file.py")
    (tmp_path / "chord.wav").write_bytes(example_wav(20.0))
    (tmp_path / "broken.mp3").write_bytes(b"not audio")
    run_example("classify_folder.py", tmp_path, tmp_path / "out.csv")
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()))
    assert [bool(row["error"]) for row in rows] == [True, False]
    assert "1 of 1 tracks need a review" in run_example("review_queue.py", tmp_path)
