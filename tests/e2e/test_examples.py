"""Every example runs."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from acoustic.example import example_wav
from acousticsense.tagging.files import read_genres
from tests.e2e.conftest import Service
from tests.support.paths import ROOT
from tests.support.sounds import encode, noise, tone

EXAMPLES = ROOT / "examples"
N_SONGS = 46
"""Half is held out, of which calibration needs 20."""


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
        [
            EXAMPLES / "retrain.sh", "songs", "model", "--crops", "96", "--threads", "1",
            "--valid-ratio", "0.5",
        ],
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


ASK_GRADIO = """
import json, sys
from gradio_client import Client, handle_file
client = Client(sys.argv[1], verbose=False)
label, reasons = client.predict(handle_file(sys.argv[2]), api_name="/answer")
try:
    client.predict(None, api_name="/answer")
except Exception as error:
    print(json.dumps([label["label"], reasons, str(error)]))
"""


def test_the_gradio_page_answers(service: Service, tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="gradio is not installed")
    song = tmp_path / "chord.wav"
    song.write_bytes(example_wav(20.0))
    command = [sys.executable, "-u", str(EXAMPLES / "app_gradio.py"), service.url]
    env = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as page:
        try:
            assert page.stdout is not None
            line = next(line for line in page.stdout if "http://" in line)
            url = line.partition("URL:")[2].strip()
            asked = subprocess.run(
                [sys.executable, "-c", ASK_GRADIO, url, str(song)],
                capture_output=True, text=True, check=False, env=env,
            )  # fmt: skip
        finally:
            page.terminate()
    assert asked.returncode == 0, asked.stderr
    label, reasons, mistake = json.loads(asked.stdout.splitlines()[-1])
    with service.client() as direct:
        body = direct.post("/v1/classify", content=song.read_bytes()).json()
    assert label == body["top_genre"]
    assert reasons.splitlines() == [each["message"] for each in body["reasons"]]
    assert "Choose a file first" in mistake


def test_beets_writes_genres(service: Service, tmp_path: Path) -> None:
    pytest.importorskip("beets", reason="beets is not installed")
    music = tmp_path / "music"
    music.mkdir()
    (music / "chord.flac").write_bytes(encode(tone(440, 12.0), 22_050, "flac"))
    (music / "broken.flac").write_bytes(encode(tone(330, 12.0), 22_050, "flac")[:300])
    config = tmp_path / "config.yaml"
    config.write_text(
        f"directory: {music}\nlibrary: {tmp_path / 'library.db'}\nplugins: acousticsense\n"
        f"pluginpath: {EXAMPLES / 'beets' / 'beetsplug'}\n"
        f"acousticsense:\n  server: {service.url}\n  min_confidence: 0.0\n"
        "import:\n  copy: no\n  autotag: no\n",
        encoding="utf-8",
    )

    def beet(*arguments: str) -> str:
        command = [sys.executable, "-m", "beets", "-c", str(config), *arguments]
        result = subprocess.run(
            command, capture_output=True, text=True, check=False,
            env={**os.environ, "BEETSDIR": str(tmp_path)},
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout + result.stderr

    beet("import", "-q", str(music))
    said = beet("-v", "genres")
    with service.client() as direct:
        body = direct.post("/v1/classify", content=(music / "chord.flac").read_bytes()).json()
    codes = [each["code"] for each in body["reasons"]]
    written = read_genres(music / "chord.flac")
    assert written == (() if "NOT_MUSIC" in codes else (body["top_genre"],)), said
    assert beet("ls", "-f", "$genres", "chord").strip() == "; ".join(written)
