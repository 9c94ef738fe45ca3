"""--retry-errors removes exactly the rows to retry, in every format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from acoustic.errors import AudioDecodeError, ConfigError, SourceUnavailableError
from deployments.batch.job_options import Format, JobOptions
from deployments.batch.parts import list_parts, read_columns, write_part
from deployments.batch.retry_errors import RETRIED_CODES, remove_rows
from deployments.batch.schema import error_columns, identity, row_schema
from deployments.batch.source_file import SourceFile


def error_row(name: str) -> dict[str, object]:
    row = identity(SourceFile(uri=f"/songs/{name}.mp3"), 10, "")
    return {
        **row,
        **error_columns(SourceUnavailableError(f'the store failed, "{name}", at\nnight')),
    }


@pytest.fixture(params=["parquet", "jsonl", "csv"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> JobOptions:
    chosen: Format = request.param
    return JobOptions(sources=("/songs",), out=str(tmp_path / "out"), format=chosen)


def ids_of(options: JobOptions) -> list[str]:
    tables = read_columns(options.out, options.storage, ("id",))
    return sorted(text for _, table in tables for text in table["id"].to_pylist())


def _parts_with(options: JobOptions, ids: set[str]) -> dict[str, frozenset[str]]:
    tables = read_columns(options.out, options.storage, ("id",))
    found = {path: frozenset(table["id"].to_pylist()) & ids for path, table in tables}
    return {path: chosen for path, chosen in found.items() if chosen}


@pytest.mark.parametrize("is_partitioned", [False, True])
def test_the_rows_are_gone_and_the_others_stay(options: JobOptions, is_partitioned: bool) -> None:
    options = replace(options, partition_by_genre=is_partitioned)
    first, second = [error_row("a"), error_row("b")], [error_row("c"), error_row("d")]
    for rows in (first, second):
        write_part(rows, row_schema([]), options)
    before = {path: Path(path).read_bytes() for path in list_parts(options.out, options.storage)}
    gone = {str(first[0]["id"])}
    remove_rows(options, _parts_with(options, gone))
    assert ids_of(options) == sorted(str(row["id"]) for row in [first[1], *second])
    after = {path: Path(path).read_bytes() for path in list_parts(options.out, options.storage)}
    assert before.keys() == after.keys()
    assert sum(before[path] != after[path] for path in before) == 1


def test_a_part_without_rows_is_removed(options: JobOptions) -> None:
    rows = [error_row("a"), error_row("b")]
    write_part(rows, row_schema([]), options)
    remove_rows(options, _parts_with(options, {str(row["id"]) for row in rows}))
    assert list_parts(options.out, options.storage) == []


def test_nothing_to_take_back_changes_nothing(options: JobOptions) -> None:
    write_part([error_row("a")], row_schema([]), options)
    (path,) = list_parts(options.out, options.storage)
    before = Path(path).stat().st_mtime_ns
    remove_rows(options, {})
    remove_rows(options, {path: frozenset({"unknown"})})
    assert Path(path).stat().st_mtime_ns == before


def test_faults_of_the_audio_are_not_tried_again() -> None:
    assert AudioDecodeError.code not in RETRIED_CODES
    assert SourceUnavailableError.code in RETRIED_CODES


def test_it_goes_with_resume_only() -> None:
    with pytest.raises(ConfigError, match="needs --resume or --skip-existing"):
        JobOptions(sources=("a",), out="b", retry_errors=True)


def test_a_damaged_part_is_named(options: JobOptions) -> None:
    write_part([error_row("a")], row_schema([]), options)
    (path,) = list_parts(options.out, options.storage)
    Path(path).write_bytes(b"{damaged")
    with pytest.raises(ConfigError, match=r"part-.* is not a readable part file"):
        ids_of(options)
