"""The command line `acousticsense`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from acoustic import __version__
from acoustic.file_walk import SUFFIXES
from acousticsense.cli.exit_codes import EXIT_CODES
from acousticsense.cli.main import app
from deployments.built_in import CHECKOUT
from tests.support.models import tiny_model
from tests.support.sounds import encode, noise

runner = CliRunner()

pytestmark = pytest.mark.usefixtures("tiny_model")


@pytest.mark.parametrize(
    "command",
    [
        "classify", "batch", "profile", "serve", "train", "calibrate", "evaluate", "rules fit",
        "config check", "k8s render", "checkpoint import",
    ],
)  # fmt: skip
def test_every_help_text_has_examples_and_the_exit_codes(command: str) -> None:
    text = runner.invoke(app, [*command.split(), "-h"]).stdout
    assert text.count(f"  acousticsense {command}") >= 2
    for code, meaning in EXIT_CODES.items():
        assert f"{code:>3}  {meaning}" in text


def test_one_form_of_output() -> None:
    result = runner.invoke(app, ["classify", "a.wav", "--json", "--csv"])
    assert result.exit_code == 2
    assert "choose one" in result.stderr


def test_an_unusable_checkpoint_is_one_line(tmp_path: Path) -> None:
    result = runner.invoke(app, ["classify", "a.wav", "--model", str(tmp_path)])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: checkpoint ")


def test_profile_prints_the_stage_table(music: Path) -> None:
    result = runner.invoke(app, ["profile", str(music / "a.wav"), "--runs", "2"])
    assert result.exit_code == 0, result.output
    for stage in ("load", "decode", "resample", "mel", "inference", "postprocess", "total"):
        assert stage in result.stdout
    assert "100.0%" in result.stdout


def test_config_check() -> None:
    result = runner.invoke(app, ["config", "check"])
    assert result.exit_code == 0, result.output
    assert "is fine" in result.stdout


def test_config_check_finds_a_typo(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text("aplications: []\n")
    result = runner.invoke(app, ["config", "check", str(path)])
    assert result.exit_code == 2
    assert "did you mean 'applications'" in result.stderr


def test_serve_refuses_a_bad_file_before_it_starts_anything(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text("aplications: []\n")
    result = runner.invoke(app, ["serve", str(path)])
    assert result.exit_code == 2


def test_import_writes_a_usable_checkpoint(tmp_path: Path, music: Path) -> None:
    from dataclasses import replace

    from acoustic.classify.vit_config import VARIANTS

    small = replace(VARIANTS["vit_b_16"], width=64, depth=1, heads=1)
    config = replace(small, input_height=224, input_width=224)
    torch.save(tiny_model(config).state_dict(), tmp_path / "best_model.pt")
    out = tmp_path / "guide"
    weights = str(tmp_path / "best_model.pt")
    result = runner.invoke(app, ["checkpoint", "import", weights, "--out", str(out)])
    assert result.exit_code == 0, result.output
    result = runner.invoke(app, ["checkpoint", "show", str(out)])
    assert "40 x 224" in result.stdout
    assert "no: scores, not probabilities" in result.stdout
    result = runner.invoke(app, ["classify", str(music / "a.wav"), "--model", str(out), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["model"]["name"] == "imported"


def test_version() -> None:
    assert runner.invoke(app, ["--version"]).stdout.strip() == __version__


def test_what_is_skipped_is_told_on_the_terminal(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """In a separate process: stderr of the decoders is discarded, ours must not be."""
    folder = tmp_path / "music"
    for i in range(12):
        band = folder / ("Jazz", "Rock")[i % 2] / f"band {i}"
        band.mkdir(parents=True)
        (band / "good.wav").write_bytes(encode(noise(8.0, seed=i), 22_050))
    (folder / "Jazz" / "band 0" / "bad.wav").write_bytes(b"no audio")
    command = "from acousticsense.cli.main import app; app()"
    result = subprocess.run(
        [sys.executable, "-c", command, "calibrate", str(tiny_checkpoint), str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert "skipped file=Jazz/band 0/bad.wav code=unsupported_audio" in result.stderr
    assert "error: " in result.stderr
    assert "Traceback" not in result.stderr


def test_the_page_has_the_same_exit_codes() -> None:
    page = (CHECKOUT / "docs" / "cli.md").read_text()
    assert all(f"| {code} | {meaning} |" in page for code, meaning in EXIT_CODES.items())
    for suffix in SUFFIXES:
        assert re.search(rf"[`\s]\{suffix}[`\s,;]", page), suffix


def test_the_doctor_finds_what_is_there_and_what_is_wrong(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    result = runner.invoke(app, ["doctor", "--json", "--model", str(tiny_checkpoint)])
    assert result.exit_code == 0, result.output
    found = {each["name"]: each for each in json.loads(result.stdout)["findings"]}
    assert {"versions", "extras", "machine", "disk", "port", "model", "device", "speed"} <= set(
        found
    )
    assert found["model"]["text"].startswith("tiny ")
    wrong = runner.invoke(app, ["doctor", "--model", str(tmp_path)])
    assert wrong.exit_code == 1
    assert "wrong model" in " ".join(wrong.stdout.split())
