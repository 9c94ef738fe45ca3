"""The command line `acousticsense`."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest
import torch
from typer.testing import CliRunner

from acoustic import __version__
from acoustic.errors import FileUnreadableError
from acoustic.file_walk import SUFFIXES
from acoustic.pipeline import Pipeline
from acousticsense.cli.exit_codes import EXIT_CODES
from acousticsense.cli.main import app
from acousticsense.cli.tables import JsonLinesWriter, existing_files
from deployments.built_in import CHECKOUT
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
    result = runner.invoke(app, ["classify", str(music), "--format", "table"])
    assert result.exit_code == 1
    assert "genre" in result.stdout
    assert f"in {music}/" in result.stdout
    assert "a.wav" in result.stdout
    assert "broken.mp3: audio_decode_failed" in result.stdout
    assert "1 other file skipped" in result.stderr
    assert "1 of 3 files failed" in result.stderr


def test_a_pipe_gets_lines_of_cells(music: Path) -> None:
    result = runner.invoke(app, ["classify", str(music)])
    header, first, *_, broken = result.stdout.splitlines()
    assert header.split("\t") == ["file", "genre", "confidence", "could_be", "review", "error"]
    assert first.split("\t")[0] == str(music / "a.wav")
    assert broken.split("\t")[-1].startswith("audio_decode_failed: ")


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl", "parquet"])
def test_results_in_a_file_are_added_to(music: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"genres.{suffix}"
    assert runner.invoke(app, ["classify", str(music / "a.wav"), "--out", str(out)]).exit_code == 0
    again = runner.invoke(app, ["classify", str(music), "--out", str(out)])
    assert again.exit_code == 2
    assert "--skip-existing to add to it" in again.stderr
    more = runner.invoke(app, ["classify", str(music), "--out", str(out), "--skip-existing"])
    assert "2 files added" in more.stderr, more.output
    files, _ = existing_files(out, suffix, False)
    assert files == {str(music / name) for name in ("a.wav", "b.flac", "broken.mp3")}


@pytest.mark.parametrize("format", ["table", "tsv", "csv", "jsonl", "parquet"])
def test_the_timeline_is_in_every_format(music: Path, tmp_path: Path, format: str) -> None:
    arguments = ["classify", str(music / "a.wav"), "--timeline", "--format", format]
    if format == "parquet":
        out = tmp_path / "x.parquet"
        assert runner.invoke(app, [*arguments, "--out", str(out)]).exit_code == 0
        (row,) = pyarrow.parquet.read_table(out).to_pylist()
        assert len(row["timeline"]) == 3
        return
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert re.search(r"\d+\.\d+-\d+\.\d+ |start_s", result.stdout)


def test_standard_input(music: Path) -> None:
    data = (music / "a.wav").read_bytes()
    result = runner.invoke(app, ["classify", "-", "--json"], input=data)
    assert json.loads(result.stdout)["file"] == "-"
    named = runner.invoke(app, ["classify", str(music / "a.wav"), "--json"])
    assert json.loads(result.stdout)["predictions"] == json.loads(named.stdout)["predictions"]


def test_a_name_that_is_not_utf_8_is_one_row(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.wav")).write_bytes(encode(sweep(8.0), 22_050))
    for format in ("tsv", "csv", "jsonl", "table"):
        result = runner.invoke(app, ["classify", str(tmp_path), "--format", format])
        assert result.exit_code == 0, result.output
        assert r"caf\xe9.wav" in result.stdout.replace(r"\\xe9", r"\xe9")
        result.stdout.encode()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "parquet"], "add --out"),
        (["--format", "table", "--out", "x.tsv"], "choose tsv"),
        (["--out", "x.unknown"], "add --format"),
        (["--skip-existing"], "needs --out"),
    ],
)
def test_options_that_do_not_fit_are_refused(arguments: list[str], message: str) -> None:
    result = runner.invoke(app, ["classify", "a.wav", *arguments])
    assert result.exit_code == 2
    assert message in result.stderr


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


def test_the_page_has_the_same_exit_codes() -> None:
    page = (CHECKOUT / "docs" / "cli.md").read_text()
    assert all(f"| {code} | {meaning} |" in page for code, meaning in EXIT_CODES.items())
    for suffix in SUFFIXES:
        assert re.search(rf"[`\s]\{suffix}[`\s,;]", page), suffix


def test_json_is_valid_in_any_encoding() -> None:
    for encoding in ("ascii", "latin-1", "utf-8"):
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace")
        name = "ïñ 🎸.mp3"
        JsonLinesWriter(stream).write(name, FileUnreadableError(f"{name} cannot be read"))
        assert json.loads(raw.getvalue().decode(encoding))["file"] == name


@pytest.mark.parametrize("suffix", ["tsv", "csv", "jsonl"])
@pytest.mark.parametrize("left", ["header", "cut line", "nothing"])
def test_an_interrupted_run_is_continued(
    music: Path, tmp_path: Path, suffix: str, left: str
) -> None:
    out = tmp_path / f"genres.{suffix}"
    command = ["classify", str(music), "--out", str(out)]
    runner.invoke(app, command)
    whole = out.read_bytes()
    header = 0 if suffix == "jsonl" else whole.index(b"\n") + 1
    out.write_bytes({"header": whole[:header], "cut line": whole[:-20], "nothing": b""}[left])
    result = runner.invoke(app, [*command, "--skip-existing"])
    assert result.exit_code == 1, result.output
    assert len(out.read_bytes().splitlines()) == len(whole.splitlines())
    assert out.read_bytes().splitlines()[0][:20] == whole.splitlines()[0][:20]


def test_names_with_quotes_and_tabs_are_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "music"
    folder.mkdir()
    for name in ('"x.wav', '"Heroes".wav', "a\tb.wav", "c\nd.wav"):
        (folder / name).write_bytes(encode(sweep(8.0), 22_050))
    for suffix in ("tsv", "csv", "jsonl"):
        out = tmp_path / f"r.{suffix}"
        assert runner.invoke(app, ["classify", str(folder), "--out", str(out)]).exit_code == 0
        again = runner.invoke(app, ["classify", str(folder), "--out", str(out), "--skip-existing"])
        assert "0 files added" in again.stderr, again.output


def test_other_columns_and_missing_folders_are_refused(music: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.tsv"
    one = str(music / "a.wav")
    assert runner.invoke(app, ["classify", one, "--out", str(out)]).exit_code == 0
    result = runner.invoke(
        app, ["classify", one, "--out", str(out), "--skip-existing", "--timeline"]
    )
    assert "its columns are" in result.stderr
    for suffix in ("tsv", "parquet"):
        result = runner.invoke(
            app, ["classify", one, "--out", str(tmp_path / "no" / f"r.{suffix}")]
        )
        assert result.exit_code == 2
        assert "there is no folder" in result.stderr


def test_a_file_named_twice_has_one_row(music: Path) -> None:
    result = runner.invoke(app, ["classify", str(music / "a.wav"), str(music), "--json"])
    assert len(result.stdout.splitlines()) == 3
