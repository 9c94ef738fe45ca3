"""Results of `acousticsense classify` in every format, in files and in pipes."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path

import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from acoustic.errors import FileUnreadableError
from acoustic.pipeline import Pipeline
from acousticsense.cli.main import app
from acousticsense.cli.tables import JsonLinesWriter, existing_files
from tests.support.sounds import encode, sweep

runner = CliRunner()

pytestmark = pytest.mark.usefixtures("tiny_model")


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


def test_top_k_names_that_many_genres(music: Path) -> None:
    one = [str(music / "a.wav"), "--top-k", "4"]
    (_, row) = runner.invoke(app, ["classify", *one]).stdout.splitlines()
    assert len(re.findall(r"\d+%", row.split("\t")[3])) == 3
    result = runner.invoke(app, ["classify", *one, "--csv"])
    assert result.exit_code == 2
    assert "no column in csv" in result.stderr
