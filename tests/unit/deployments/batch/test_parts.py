"""Part files: the same rows in every format, names that follow from the files, no stale part."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet
import pytest

from acoustic.errors import AudioDecodeError, ConfigError, SourceUnavailableError
from acoustic.pipeline import Pipeline
from acoustic.prediction import LIST_SEPARATOR
from acoustic.request import RequestOptions
from deployments.batch import backoff, parts
from deployments.batch.job_options import Format, JobOptions
from deployments.batch.parts import (
    CSV_COLUMNS,
    encode,
    list_parts,
    read_columns,
    read_part,
    write,
    write_part,
)
from deployments.batch.schema import ROWS, answer_columns, identity, row_schema
from deployments.batch.source_file import SourceFile
from tests.support.chunks import failed_row
from tests.support.sounds import encode as encode_audio
from tests.support.sounds import noise, sweep
from tests.support.stores import FakeStore

FORMATS: Sequence[Format] = get_args(Format)
EXTRAS = ["label"]
AWKWARD = 'no decoder, says "ffmpeg";\nline 2: Björk, ☃'

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def rows(tiny_checkpoint: Path) -> Rows:
    """Two answers and a failure, with a column of a manifest."""
    pipeline = Pipeline.from_folder(tiny_checkpoint)
    found: Rows = []
    for name, sound in (("a.wav", sweep(20.0)), ("b.wav", noise(20.0))):
        file = SourceFile(uri=f"/songs/{name}", extras={"label": f"00{name}"})
        answer = pipeline.classify(encode_audio(sound, 22_050), RequestOptions(top_k=3))
        found.append({**identity(file, 1000, "v1"), **answer_columns(answer)})
    return [*found, failed_row("/songs/c.wav", AudioDecodeError(AWKWARD), {"label": ""})]


@pytest.fixture
def options(tmp_path: Path) -> JobOptions:
    return JobOptions(sources=("/songs",), out=str(tmp_path / "out"))


def names_of(options: JobOptions) -> list[str]:
    root = Path(options.out)
    return [str(Path(path).relative_to(root)) for path in list_parts(options.out, options.storage)]


def contents(options: JobOptions, columns: tuple[str, ...]) -> Rows:
    tables = [table for _, table in read_columns(options.out, options.storage, columns)]
    return [row for table in tables for row in table.to_pylist()]


def padded(rows: Rows) -> Rows:
    """Rows with null for the columns that they do not have."""
    return [{name: row.get(name) for name in row_schema(EXTRAS).names} for row in rows]


def test_parquet_and_jsonl_hold_the_same_rows(rows: Rows) -> None:
    schema = row_schema(EXTRAS)
    table = pyarrow.parquet.read_table(io.BytesIO(encode(rows, schema, "parquet")))
    lines = encode(rows, schema, "jsonl").decode().splitlines()
    assert table.schema.equals(schema)
    assert [json.loads(line) for line in lines] == padded(rows) == table.to_pylist()


def test_csv_has_the_same_numbers_and_names_for_lists(rows: Rows) -> None:
    text = encode(rows, row_schema(EXTRAS), "csv").decode()
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    assert list(found[0]) == [*CSV_COLUMNS, "label"]
    for line, row in zip(found, rows, strict=True):
        for name in ("id", "uri", "error_code", "error_message", "label"):
            assert line[name] == row[name], name
    for line, row in zip(found[:2], rows[:2], strict=True):
        assert float(line["confidence"]) == row["confidence"]
        assert line["prediction_set"].split(LIST_SEPARATOR) == row["prediction_set"]["genres"]
        assert line["needs_review"] == str(row["needs_review"]).lower()
    assert {found[2][name] for name in ("top_genre", "confidence", "needs_review")} == {""}


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_read_back(options: JobOptions, rows: Rows, format: Format) -> None:
    write_part(rows, row_schema(EXTRAS), replace(options, format=format))
    columns = ("id", "uri", "error_code", "error_message", "label")
    found = contents(options, columns)
    assert found == [{name: row[name] for name in columns} for row in rows]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("text", ["0123456789012345", "12e4567890123456", "true", "2026-01-01"])
def test_an_id_that_looks_like_a_number_stays_text(
    options: JobOptions, format: Format, text: str
) -> None:
    row = {**failed_row("/a.wav", AudioDecodeError("x")), "id": text}
    write_part([row], row_schema([]), replace(options, format=format))
    assert contents(options, ("id",)) == [{"id": text}]


@pytest.mark.parametrize("format", FORMATS)
def test_a_part_without_a_column_is_named(options: JobOptions, rows: Rows, format: Format) -> None:
    write_part(rows, row_schema(EXTRAS), replace(options, format=format))
    with pytest.raises(ConfigError, match=r"part-\w+\.\w+ is not a readable part file"):
        contents(options, ("id", "no_such_column"))


def test_parts_of_errors_and_of_answers_join(options: JobOptions, rows: Rows) -> None:
    for each in rows:
        write_part([each], row_schema(EXTRAS), options)
    tables = [pyarrow.parquet.read_table(path) for path in list_parts(options.out, options.storage)]
    joined = pa.concat_tables(tables)  # raises where a schema differs
    assert sorted(joined["id"].to_pylist()) == sorted(row["id"] for row in rows)


def test_a_repeated_write_replaces_its_part(options: JobOptions, rows: Rows) -> None:
    failed = [failed_row(row["uri"], SourceUnavailableError("down")) for row in rows]
    write_part(failed, row_schema(EXTRAS), options)
    before = names_of(options)
    write_part(rows, row_schema(EXTRAS), options)
    assert names_of(options) == before
    assert [row["error_code"] for row in contents(options, ("error_code",))] == [
        "", "", "audio_decode_failed",
    ]  # fmt: skip


def test_chunks_of_other_files_are_other_parts(options: JobOptions, rows: Rows) -> None:
    for chunk in (rows, rows[:2], rows[::-1]):
        write_part(chunk, row_schema(EXTRAS), options)
    assert len(set(names_of(options))) == 3


def with_genre(row: dict[str, Any], genre: str) -> dict[str, Any]:
    return {**row, "top_genre": genre}


@pytest.mark.parametrize("format", FORMATS)
def test_rows_go_to_the_folder_of_their_genre(
    options: JobOptions, rows: Rows, format: Format
) -> None:
    options = replace(options, partition_by_genre=True, format=format)
    chunk = [with_genre(rows[0], "Jazz"), with_genre(rows[1], "R&B/Soul"), rows[2]]
    write_part(chunk, row_schema(EXTRAS), options)
    found = {Path(name).parent.name: Path(name).name for name in names_of(options)}
    assert found.keys() == {"genre=Jazz", "genre=R&B-Soul", "genre=none"}
    assert len(set(found.values())) == 1, "the same name in every folder"
    for path, table in read_columns(options.out, options.storage, ("id",)):
        index = ["Jazz", "R&B-Soul", "none"].index(Path(path).parent.name.partition("=")[2])
        assert table["id"].to_pylist() == [chunk[index]["id"]]


def test_a_row_that_changes_its_genre_leaves_no_stale_part(options: JobOptions, rows: Rows) -> None:
    options = replace(options, partition_by_genre=True)
    other = [failed_row("/songs/other.wav", AudioDecodeError("x"))]
    write_part(other, row_schema(EXTRAS), options)
    first = [failed_row(rows[0]["uri"], SourceUnavailableError("down")), with_genre(rows[1], "Pop")]
    write_part(first, row_schema(EXTRAS), options)
    write_part([with_genre(r, "Rock") for r in rows[:2]], row_schema(EXTRAS), options)
    folders = sorted(Path(name).parent.name for name in names_of(options))
    assert folders == ["genre=Rock", "genre=none"], "another chunk's part stays"
    ids = sorted(row["id"] for row in contents(options, ("id",)))
    assert ids == sorted(row["id"] for row in [*rows[:2], *other])


def test_only_finished_parts_are_listed(options: JobOptions, rows: Rows) -> None:
    assert list_parts(options.out, options.storage) == [], "there is no output yet"
    write_part(rows, row_schema(EXTRAS), options)
    (part,) = names_of(options)
    for other in ("_job.json", "_report.json", ".part-1.tmp", "notes.csv"):
        (Path(options.out) / other).write_text("x")
    assert names_of(options) == [part]


def chunk_of(rows: Rows) -> pa.Table:
    costs = {"read_bytes": 100, "preprocess_s": 0.5, "classify_s": 0.25}
    texts = [json.dumps({**row, **costs}) for row in rows]
    return pa.Table.from_pydict({"row": texts}, schema=ROWS)


def test_a_written_chunk_returns_its_counts_and_costs(options: JobOptions, rows: Rows) -> None:
    (output,) = write(chunk_of(rows), options, EXTRAS).to_pylist()
    assert output.pop("write_s") > 0
    assert output == {
        "read_bytes": 300, "preprocess_s": 1.5, "classify_s": 0.75, "n_files": 3, "n_errors": 1,
        "first_error": "audio_decode_failed", "failure": "", "size_bytes": 2010,
    }  # fmt: skip
    (path,) = list_parts(options.out, options.storage)
    assert pyarrow.parquet.read_table(path).to_pylist() == padded(rows), "without the costs"


def test_a_chunk_without_errors_has_no_first_error(options: JobOptions, rows: Rows) -> None:
    (output,) = write(chunk_of(rows[:2]), options, EXTRAS).to_pylist()
    assert (output["n_errors"], output["first_error"]) == (0, "")


def test_a_failed_write_is_returned_and_not_raised(
    options: JobOptions, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise SourceUnavailableError("the store failed at s3://out")

    monkeypatch.setattr(parts, "write_atomically", fail)
    (output,) = write(chunk_of(rows), options, EXTRAS).to_pylist()
    assert output["failure"] == "the store failed at s3://out"
    assert names_of(options) == []


def test_a_part_is_read_by_one_request_and_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    waits_s: list[float] = []
    monkeypatch.setattr(backoff.time, "sleep", waits_s.append)
    store = FakeStore(b"rows", lambda number: OSError("reset") if number == 0 else None)
    assert read_part(store, "bucket/part-1.csv") == b"rows"
    assert (store.n_requests, len(waits_s)) == (2, 1)
