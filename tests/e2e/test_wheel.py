"""The built wheel in a fresh environment and an empty folder: nothing needs the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from acoustic.example import example_wav
from tests.e2e.conftest import free_port, start, stop
from tests.support.paths import ROOT
from tests.support.sounds import encode, noise, tone

TORCH = "torch==2.13.0"
INSTALL_TIMEOUT_S = 900.0

pytestmark = pytest.mark.timeout(1800)

USER_SCRIPT = """\
from acousticsense import AcousticError, Classifier, Prediction

with Classifier(device="cpu", batch_size=4) as classifier:
    prediction: Prediction = classifier.classify("song.wav", effort="thorough")
    genre: str = prediction.genre
    confidence: float = prediction.confidence
    for result in classifier.classify_many(["song.wav", "missing.wav"]):
        text = result.message if isinstance(result, AcousticError) else result.to_json()
        print(text)
print(genre, confidence, classifier.labels[0])
"""


@dataclass(frozen=True)
class Installed:
    """A fresh environment with the wheel, and an empty folder to work in.

    Attributes:
        bin: folder of the environment's programs.
        folder: working directory, outside the checkout.
        wheel: path of the wheel.
    """

    bin: Path
    folder: Path
    wheel: Path

    def run(self, *command: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        program, *arguments = map(str, command)
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(
            [str(self.bin / program), *arguments], cwd=self.folder, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def install(self, *requirements: str) -> None:
        self.run("pip", "install", "--quiet", *requirements)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    root = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(root), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=INSTALL_TIMEOUT_S)
    (wheel,) = root.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(root / "venv")], check=True)
    folder = root / "empty"
    folder.mkdir()
    found = Installed(bin=root / "venv" / "bin", folder=folder, wheel=wheel)
    found.install(TORCH)
    found.install(str(wheel))
    (folder / "song.wav").write_bytes(example_wav(30.0))
    return found


def test_the_base_installation_answers(installed: Installed) -> None:
    answer = json.loads(installed.run("acousticsense", "classify", "song.wav", "--json").stdout)
    assert answer["model"]["name"] == "acousticsense-hybrid"
    profile = installed.run("acousticsense", "profile", "song.wav", "--runs", 2).stdout
    assert "inference" in profile
    assert "is fine" in installed.run("acousticsense", "config", "check").stdout


def test_it_is_light(installed: Installed) -> None:
    """librosa and what it needs, scikit-learn and pyarrow are extras."""
    names = {
        each["name"] for each in json.loads(installed.run("pip", "list", "--format=json").stdout)
    }
    assert {"torch", "ray", "soundfile"} <= names
    assert not names & {"librosa", "numba", "llvmlite", "scikit-learn", "matplotlib", "pyarrow"}


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("batch", ".", "--out", "rows"), "batch"),
        (("train", ".", "--out", "model"), "train"),
        (("calibrate", "model", "."), "train"),
        (("evaluate", "model", ".", "--out", "report"), "train"),
        (("rules", "fit", "model", "."), "train"),
        (("profile", "song.wav", "--compare", "librosa"), "reference"),
    ],
)
def test_a_missing_extra_is_one_sentence(
    installed: Installed, command: tuple[str, ...], extra: str
) -> None:
    found = installed.run("acousticsense", *command, code=2)
    assert len(found.stderr.splitlines()) == 1
    assert f"pip install 'acousticsense[{extra}]'" in found.stderr


def test_what_needs_the_checkout_says_so(installed: Installed) -> None:
    found = installed.run("acousticsense", "k8s", "render", code=2)
    assert "needs a checkout of the repository" in found.stderr


def test_a_users_script_runs_and_is_typed(installed: Installed) -> None:
    script = installed.folder / "script.py"
    script.write_text(USER_SCRIPT)
    lines = installed.run("python", script).stdout.splitlines()
    assert json.loads(lines[0])["file"] == "song.wav"
    assert "missing.wav cannot be read" in lines[1]
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable"]
    checked = subprocess.run(
        [*command, str(installed.bin / "python"), str(script)],
        cwd=installed.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout


def test_the_service_starts_and_answers(installed: Installed) -> None:
    port = free_port()
    command = [str(installed.bin / "acousticsense"), "serve", "--port", str(port)]
    service = start(command, port, "is ready at", cwd=installed.folder)
    try:
        data = (installed.folder / "song.wav").read_bytes()
        reply = httpx.post(f"{service.url}/v1/classify", content=data, timeout=60)
        assert reply.status_code == 200, reply.text
        assert reply.json()["model"]["name"] == "acousticsense-hybrid"
    finally:
        assert stop(service) == 0


def test_batch_and_training_with_their_extras(installed: Installed) -> None:
    installed.install(f"{installed.wheel}[batch,train]")
    music = installed.folder / "music"
    for i in range(10):
        genre = ("Jazz", "Rock")[i % 2]
        path = music / genre / f"band {i}" / "song.wav"
        path.parent.mkdir(parents=True)
        sound = tone(300 + 10 * i, 7.0) if genre == "Jazz" else noise(7.0, level=0.3, seed=i)
        path.write_bytes(encode(sound, 22_050))
    done = installed.run("acousticsense", "batch", "music", "--out", "rows", "--limit", 2)
    assert "2 rows, 0 errors" in done.stdout
    assert list((installed.folder / "rows").glob("part-*.parquet"))
    installed.run(
        "acousticsense", "train", "music", "--out", "model", "--crops", 48, "--threads", 1
    )
    assert (installed.folder / "model" / "model.safetensors").stat().st_size > 100_000
