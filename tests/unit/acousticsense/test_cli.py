"""The command line `acousticsense`."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from acoustic import __version__
from acoustic.pipeline import Pipeline
from acousticsense.cli.main import app
from tests.support.models import tiny_model
from tests.support.sounds import encode, noise, sweep

runner = CliRunner()


@pytest.fixture(autouse=True)
def _tiny_model(monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path) -> None:
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


def test_json_is_the_pipelines_answer(music: Path, tiny_checkpoint: Path) -> None:
    result = runner.invoke(app, ["classify", str(music / "a.wav"), "--json", "--top-k", "5"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    expected = Pipeline.from_folder(tiny_checkpoint).classify_file(music / "a.wav").to_dict()
    assert found.pop("file") == str(music / "a.wav")
    for key in ("file", "timings_ms"):
        expected.pop(key)
        found.pop(key, None)
    assert found == expected


def test_a_bad_file_is_reported_and_the_rest_goes_on(music: Path) -> None:
    result = runner.invoke(app, ["classify", str(music), "--json"])
    assert result.exit_code == 1
    first, second, third = map(json.loads, result.stdout.splitlines())
    assert "top_genre" in first
    assert "top_genre" in second
    assert third["error"]["code"] == "audio_decode_failed"


def test_csv(music: Path) -> None:
    result = runner.invoke(app, ["classify", str(music), "missing.wav", "--csv"])
    assert result.exit_code == 1
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [Path(row["file"]).name for row in rows] == [
        "a.wav",
        "b.flac",
        "broken.mp3",
        "missing.wav",
    ]
    assert rows[0]["top_genre"]
    assert [row["error_code"] for row in rows[2:]] == ["audio_decode_failed", "file_unreadable"]


def test_the_table(music: Path) -> None:
    result = runner.invoke(app, ["classify", str(music)])
    assert result.exit_code == 1
    assert "genre" in result.stdout
    assert "broken.mp3" in result.stderr


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

    from acoustic.classify.vit import VARIANTS

    small = replace(VARIANTS["vit_b_16"], width=64, depth=1, heads=1)
    config = replace(small, input_height=224, input_width=224)
    torch.save(tiny_model(config).state_dict(), tmp_path / "best_model.pt")
    out = tmp_path / "guide"
    result = runner.invoke(app, ["checkpoint", "import", str(tmp_path / "best_model.pt"), str(out)])
    assert result.exit_code == 0, result.output
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
