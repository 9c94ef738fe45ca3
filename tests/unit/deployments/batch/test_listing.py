"""Local sources, manifests, options and rows of the batch job, without Ray or a server."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from pyarrow import fs
from typer.testing import CliRunner

from acoustic.errors import ConfigError
from acoustic.example import example_wav
from acoustic.pipeline import Pipeline
from acoustic.request import RequestOptions
from acousticsense.cli.main import app
from deployments.batch.job_options import JobOptions
from deployments.batch.listing import _source_file, list_files
from deployments.batch.reader import Reader
from deployments.batch.schema import ANSWER, answer_columns, row_schema
from deployments.batch.source_file import UNKNOWN_SIZE, SourceFile
from deployments.batch.storage import StorageOptions, open_filesystem

PLAIN = StorageOptions()


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    for name in ("a.wav", "Rock/b.MP3", "Rock/old/c.flac", "Rock/notes.txt", "d [live].ogg"):
        path = tmp_path / "songs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    return tmp_path / "songs"


def names(sources: list[object], root: Path) -> list[str]:
    files = list_files([str(each) for each in sources], PLAIN).files
    assert all(file.size_bytes == Path(file.uri).stat().st_size for file in files)
    return [str(Path(file.uri).relative_to(root)) for file in files]


def test_a_folder_is_walked_for_audio(songs: Path) -> None:
    assert names([songs], songs) == ["Rock/b.MP3", "Rock/old/c.flac", "a.wav", "d [live].ogg"]
    assert names([f"file://{songs}"], songs) == names([songs], songs)


def test_a_single_file_is_taken_whatever_its_name(songs: Path) -> None:
    assert names([songs / "Rock" / "notes.txt"], songs) == ["Rock/notes.txt"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.wav", ["a.wav"]),
        ("Rock/*", ["Rock/b.MP3", "Rock/notes.txt"]),
        ("**/*.flac", ["Rock/old/c.flac"]),
        ("**/[ab].*", ["Rock/b.MP3", "a.wav"]),
        ("Rock/?.MP3", ["Rock/b.MP3"]),
        ("**/[!ab].*", ["Rock/old/c.flac"]),
        ("Rock/**", ["Rock/b.MP3", "Rock/notes.txt", "Rock/old/c.flac"]),
    ],
)
def test_globs(songs: Path, pattern: str, found: list[str]) -> None:
    assert names([songs / pattern], songs) == found


def test_brackets_in_a_name_are_no_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "Album [2020]"
    folder.mkdir()
    (folder / "a.wav").write_bytes(b"x")
    assert names([folder], folder) == ["a.wav"]


def test_a_name_that_is_not_utf_8_is_a_file_like_any_other(tmp_path: Path) -> None:
    raw = os.fsdecode(b"caf\xe9.mp3")
    (tmp_path / raw).write_bytes(b"x")
    (file,) = list_files([str(tmp_path)], PLAIN).files
    assert file.uri == str(tmp_path / raw)
    assert file.name == f"{tmp_path}/caf\\xe9.mp3"
    assert len(file.id) == 16
    assert SourceFile(**json.loads(json.dumps(asdict(file)))) == file
    (fetched,) = Reader(PLAIN, 1, 1000).read([file])
    assert fetched.data == b"x"


def test_links_are_visited_once(songs: Path) -> None:
    (songs / "Rock" / "loop").symlink_to(songs)
    assert len(names([songs], songs)) == 4


def test_a_glob_follows_the_links_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2" / "x.mp3").write_bytes(b"x")
    (tmp_path / "cur").symlink_to(tmp_path / "v2")
    assert names([tmp_path / "cur*" / "x.mp3"], tmp_path) == ["cur/x.mp3"]
    assert names([tmp_path / "*" / "x.mp3"], tmp_path) == ["v2/x.mp3"]


def test_what_is_skipped_is_counted_and_an_empty_source_named(songs: Path, tmp_path: Path) -> None:
    (songs / "._a.wav").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    found = list_files([str(songs), str(tmp_path / "empty")], PLAIN)
    assert found.n_skipped == 2
    assert found.empty == [str(tmp_path / "empty")]
    assert len(found.files) == 4


def test_a_folder_named_like_a_manifest_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "list.csv").mkdir()
    (tmp_path / "list.csv" / "a.wav").write_bytes(b"x")
    assert names([tmp_path / "list.csv"], tmp_path) == ["list.csv/a.wav"]


@pytest.mark.parametrize("place", ["file:///{}", "file://localhost/{}"])
def test_file_uris_are_percent_encoded(tmp_path: Path, place: str) -> None:
    (tmp_path / "a b.wav").write_bytes(b"x")
    uri = place.format(f"{tmp_path}/a%20b.wav".lstrip("/"))
    (tmp_path / "m.csv").write_text(f"uri\n{uri}\n")
    (file,) = list_files([str(tmp_path / "m.csv")], PLAIN).files
    (fetched,) = Reader(PLAIN, 1, 1000).read([file])
    assert fetched.data == b"x"


def test_a_file_named_twice_is_listed_once(songs: Path) -> None:
    assert names([songs / "a.wav", songs], songs)[0] == "a.wav"
    assert len(names([songs / "a.wav", songs], songs)) == 4


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "does not exist"),
        ("songs/Rock/*.ogg", "has no audio file"),
        ("ftp://host/a", "unknown scheme, use a local path, file://, s3://"),
        ("empty.csv", "cannot be read"),
        ("columns.csv", "has no column uri or path or file"),
        ("clash.csv", "columns that results have too: top_genre; rename them"),
        ("cost.csv", "columns that results have too: preprocess_s; rename them"),
        ("hole.csv", "row 2 of manifest .* has no uri"),
    ],
)
def test_sources_that_cannot_be_used_are_refused(
    songs: Path, tmp_path: Path, source: str, message: str
) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "columns.csv").write_text("song,genre\na,b\n")
    (tmp_path / "clash.csv").write_text("uri,top_genre\na,b\n")
    (tmp_path / "cost.csv").write_text("uri,preprocess_s\na,b\n")
    (tmp_path / "hole.csv").write_text("uri,x\na,b\n,c\n")
    place = source if "://" in source else str(tmp_path / source)
    with pytest.raises(ConfigError, match=message):
        list_files([place], PLAIN)


def write_manifest(path: Path) -> Path:
    rows = {"uri": ["a.wav", "s3://bucket/b.wav", "/else/c.wav"], "year": ["01999", "", "2001"]}
    table = pa.table(rows)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(str(row).replace("'", '"') for row in table.to_pylist()))
    else:
        path.write_text("uri,year\na.wav,01999\ns3://bucket/b.wav,\n/else/c.wav,2001\n")
    return path


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_manifests_name_files_and_keep_their_text(tmp_path: Path, suffix: str) -> None:
    found = list_files([str(write_manifest(tmp_path / f"m.{suffix}"))], PLAIN).files
    assert [each.uri for each in found] == [
        f"{tmp_path}/a.wav", "s3://bucket/b.wav", "/else/c.wav",
    ]  # fmt: skip
    assert [each.extras for each in found] == [
        {"year": "01999"}, {"year": ""}, {"year": "2001"},
    ]  # fmt: skip
    assert found[0].size_bytes == -1


def test_the_identity_follows_from_the_uri() -> None:
    one, same = SourceFile(uri="s3://b/a.wav"), SourceFile(uri="s3://b/a.wav", size_bytes=3)
    assert one.id == same.id != SourceFile(uri="s3://b/A.wav").id
    assert len(one.id) == 16


def test_the_columns_are_the_predictions_fields(tiny_checkpoint: Path) -> None:
    """Arrow drops struct fields that are not in its schema, so the schema must have them all."""
    prediction = Pipeline.from_folder(tiny_checkpoint).classify(
        example_wav(30), RequestOptions(timeline=True)
    )
    columns = answer_columns(prediction)
    assert set(columns) == {*ANSWER.names, "error_code", "error_message"}
    (row,) = pa.Table.from_pylist([columns], schema=row_schema([])).to_pylist()
    for key, value in columns.items():
        assert row[key] == value, key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limit": 0}, "--limit is 0, must be 1 or more"),
        ({"max_error_rate": 2.0}, "limits are 0 to 1"),
        ({"chunk_files": -1}, "--chunk is -1"),
    ],
)
def test_options_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        JobOptions(sources=("a",), out="b", **changes)


def test_the_command_line_says_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[JobOptions] = []
    monkeypatch.setattr("deployments.batch.job.run_job", lambda each: found.append(each) or 3)
    result = CliRunner().invoke(
        app,
        ["batch", "a", "s3://b", "--out", "c", "--errors", "fail", "--partition-by", "genre",
         "--resume", "--endpoint", "http://x:1", "--anonymous", "--concurrency", "3",
         "--effort", "auto", "--checkpoint", "/models/x"],
    )  # fmt: skip
    assert result.exit_code == 3, result.output
    assert found == [
        JobOptions(
            sources=("a", "s3://b"), out="c", fail_on_error=True, partition_by_genre=True,
            existing="resume", preprocess_actors=3, model=Path("/models/x"),
            request=RequestOptions(effort="auto"),
            storage=StorageOptions(endpoint="http://x:1", anonymous=True),
        )
    ]  # fmt: skip


def test_resume_and_skip_existing_exclude_each_other() -> None:
    result = CliRunner().invoke(app, ["batch", "a", "--out", "c", "--resume", "--skip-existing"])
    assert result.exit_code == 2
    assert "choose one" in result.output


def test_an_endpoint_is_a_url() -> None:
    with pytest.raises(ConfigError, match=r"endpoint 'host:1' is not a URL like https://host:9000"):
        open_filesystem("s3://b/a", StorageOptions(endpoint="host:1"))


def test_azure_without_its_client_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "adlfs", None)
    with pytest.raises(ConfigError, match=r"acousticsense\[azure\]"):
        open_filesystem("az://container/a", PLAIN)


@pytest.mark.parametrize(("listed_ns", "expected"), [(0, UNKNOWN_SIZE), (5 * 10**9, 5 * 10**9)])
def test_a_time_of_zero_is_an_unknown_time(listed_ns: int, expected: int) -> None:
    """rclone lists it while an object is read; every file would have changed since."""
    info = fs.FileInfo("songs/a.wav", fs.FileType.File, mtime_ns=listed_ns, size=1)
    assert _source_file("s3://songs", info).mtime_ns == expected
