"""Reads stored answers: what `classify` and `batch` have written, in every format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from acoustic import text_tables
from acoustic.errors import ConfigError
from acoustic.prediction import flat_row

Row = dict[str, Any]


def read_answers(results: Path) -> Iterator[tuple[str, Row]]:
    """Files and their complete answers, from JSON lines or Parquet.

    Args:
        results: a file, or the folder of a batch job.

    Yields:
        Name of the file, a path where it is local, and the JSON object of its answer; or an
        object whose `error` is the sentence that takes its place.

    Raises:
        ConfigError: no results were found, or they do not contain complete answers.
    """
    for part in _parts(results):
        for row in _rows(part):
            failed = row.get("error_message") or (row.get("error") or {}).get("message")
            if not failed and not row.get("predictions"):
                raise ConfigError(f"{part} has no probabilities: choose jsonl or parquet")
            yield _name(row), {"error": failed} if failed else row


def read_flat(results: Path) -> Iterator[tuple[str, Row]]:
    """Files and one line about each, from every format; see `acoustic.prediction.flat_row`.

    Args:
        results: a file, or the folder of a batch job.

    Yields:
        Name of the file and its line; lines about failures are left out.

    Raises:
        ConfigError: no results were found, or they were not written by this program.
    """
    for part in _parts(results):
        for row in _rows(part):
            if row.get("error_message") or row.get("error"):
                continue
            if not row.get("top_genre"):
                raise ConfigError(f"{part} has no column top_genre: it does not contain answers")
            is_text = not isinstance(row.get("reasons"), (list, type(None)))
            yield _name(row), dict(row) if is_text else flat_row(row)


def _parts(results: Path) -> list[Path]:
    parts = sorted(results.rglob("part-*")) if results.is_dir() else [results]
    if not parts:
        raise ConfigError(f"{results} has no results")
    return parts


def _name(row: Row) -> str:
    name = str(row.get("uri") or row.get("file") or "")
    return unquote(urlsplit(name).path) if name.startswith("file:///") else name


def _rows(part: Path) -> Iterator[Row]:
    try:
        if part.suffix == ".parquet":
            yield from _parquet(part)
        elif part.suffix == ".jsonl":
            with part.open(encoding="utf-8") as lines:
                yield from map(json.loads, lines)
        elif part.suffix in (".csv", ".tsv"):
            yield from text_tables.read_csv(part.read_bytes()).rows
        else:
            raise ConfigError(f"{part} is not a .jsonl, .parquet or .csv file")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{part} cannot be read: {error}") from error


def _parquet(part: Path) -> list[Row]:
    try:
        import pyarrow.parquet
    except ImportError as missing:
        raise ConfigError(
            "Parquet needs the extra batch: pip install 'acousticsense[batch]'"
        ) from missing
    rows: list[Row] = pyarrow.parquet.read_table(part).to_pylist()
    return rows
