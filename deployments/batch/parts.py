"""Writes and reads part files: atomic, named by a digest of the files in them.

A chunk that is written again, because a worker died after the write, replaces its own part. A file
with a row in a part is finished, so a job resumes from the parts themselves.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from pyarrow import fs

from acoustic.errors import AcousticError, ConfigError
from acoustic.prediction import CSV_COLUMNS as ANSWER_COLUMNS
from acoustic.prediction import flat_row
from deployments.batch.backoff import with_retries
from deployments.batch.job_options import Format, JobOptions
from deployments.batch.schema import COSTS, FAILURE, IDENTITY, RESERVED, row_schema
from deployments.batch.storage import (
    StorageOptions,
    open_filesystem,
    translating_store_errors,
    write_atomically,
)

PREFIX = "part-"
GENRE_FOLDER = "genre="
"""Not a column of the rows: readers add the folder's key as a column of its own."""

NO_GENRE = "none"
CSV_COLUMNS = (*IDENTITY.names, *ANSWER_COLUMNS, *FAILURE.names)


def write(table: pa.Table, options: JobOptions, extras: list[str]) -> pa.Table:
    """Write a chunk of ROWS to a part file; returns one row with its counts and costs.

    Args:
        table: rows of one chunk, as JSON.
        options: options of the job.
        extras: names of manifest columns that are passed through.
    """
    rows = [json.loads(text) for text in table["row"].to_pylist()]
    costs = {name: sum(row.pop(name) for row in rows) for name in COSTS}
    begun_s = time.perf_counter()
    failure = ""
    try:
        write_part(rows, row_schema(extras), options)
    except AcousticError as error:  # as a value: Ray wraps what a task raises
        failure = error.message
    errors = [row["error_code"] for row in rows if row["error_code"]]
    summary = {
        **costs,
        "n_files": len(rows),
        "n_errors": len(errors),
        "first_error": errors[0] if errors else "",
        "failure": failure,
        "size_bytes": sum(row["size_bytes"] for row in rows),
        "write_s": time.perf_counter() - begun_s,
    }
    return pa.Table.from_pylist([summary])


def write_part(rows: list[dict[str, Any]], schema: pa.Schema, options: JobOptions) -> None:
    """Write the rows of a chunk to one part file, or to one per genre.

    Args:
        rows: result rows of the chunk, at least one.
        schema: Arrow schema of a part file.
        options: output folder, format and partitioning of the job.
    """
    filesystem, root = open_filesystem(options.out, options.storage)
    # from the file ids alone, so that a repeated write replaces the first
    digest = hashlib.sha256("".join(row["id"] for row in rows).encode()).hexdigest()[:20]
    name = f"{PREFIX}{digest}.{options.format}"
    if not options.partition_by_genre:
        content = encode(rows, schema, options.format)
        write_atomically(filesystem, f"{root}/{name}", content)
        return
    parts: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        parts.setdefault(row.get("top_genre") or NO_GENRE, []).append(row)
    _remove_stale(filesystem, root, name, {_folder(genre) for genre in parts})
    for genre, chosen in parts.items():
        path = f"{root}/{_folder(genre)}/{name}"
        write_atomically(filesystem, path, encode(chosen, schema, options.format))


def encode(rows: list[dict[str, Any]], schema: pa.Schema, format: Format) -> bytes:
    """Bytes of a part file in the given format."""
    if format == "jsonl":
        lines = [{name: row.get(name) for name in schema.names} for row in rows]
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    if format == "csv":
        return _encode_csv(rows, schema)
    file = io.BytesIO()
    table = pa.Table.from_pylist(rows, schema=schema)
    pyarrow.parquet.write_table(table, file, compression="zstd")
    return file.getvalue()


def list_parts(out: str, storage: StorageOptions) -> list[str]:
    """Paths of all finished part files, sorted.

    Raises:
        ConfigError: `out` cannot be listed.
    """
    filesystem, root = open_filesystem(out, storage)
    try:
        found = filesystem.get_file_info(
            fs.FileSelector(root, recursive=True, allow_not_found=True)
        )
    except OSError as error:
        raise ConfigError(f"{out} cannot be listed: {type(error).__name__}") from error
    return sorted(each.path for each in found if each.base_name.startswith(PREFIX))


def read_columns(
    out: str, storage: StorageOptions, columns: tuple[str, ...]
) -> Iterator[tuple[str, pa.Table]]:
    """Yield the path of every finished part file and a table of some of its columns.

    Args:
        out: output folder or object-store prefix of the job.
        storage: settings for object stores.
        columns: names of the columns to read.

    Raises:
        SourceUnavailableError, SourceForbiddenError: a part cannot be read, after several tries.
        ConfigError: a part is damaged or not from a batch job.
    """
    filesystem, _ = open_filesystem(out, storage)
    for path in list_parts(out, storage):
        content = read_part(filesystem, path)
        try:
            table = _parse_columns(path, content, list(columns))
        except (pa.ArrowException, ValueError, KeyError) as error:
            raise ConfigError(f"{path} is not a readable part file") from error
        yield path, table


def read_part(filesystem: fs.FileSystem, path: str) -> bytes:
    """Bytes of a part file, read in one request; retried if the store fails.

    Raises:
        SourceUnavailableError, SourceForbiddenError, SourceNotFoundError: the part cannot be read.
    """
    return with_retries(functools.partial(_read_once, filesystem, path))


def _read_once(filesystem: fs.FileSystem, path: str) -> bytes:
    with translating_store_errors(path), filesystem.open_input_file(path) as stream:
        content: bytes = stream.read()
    return content


def _parse_columns(path: str, content: bytes, columns: list[str]) -> pa.Table:
    if path.endswith(".parquet"):
        return pyarrow.parquet.read_table(io.BytesIO(content), columns=columns)
    if path.endswith(".jsonl"):
        rows = [json.loads(line) for line in content.splitlines()]
        return pa.Table.from_pylist([{c: r[c] for c in columns} for r in rows])
    # as text: an id of digits only, or one like 12e4…, would be read as a number
    convert = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()))
    # messages of errors may hold line breaks, and pyarrow reads in blocks
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    table = pyarrow.csv.read_csv(io.BytesIO(content), parse_options=parse, convert_options=convert)
    return table.select(columns)


def _encode_csv(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes:
    """CSV bytes: one line per file; sets and reasons as names joined by "; "."""
    names = [*CSV_COLUMNS, *(name for name in schema.names if name not in RESERVED)]
    file = io.StringIO()
    writer = csv.DictWriter(file, names, extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, **flat_row(row)})
    return file.getvalue().encode()


def _remove_stale(filesystem: fs.FileSystem, root: str, name: str, kept: set[str]) -> None:
    """Delete this chunk's parts under other genres, left by an earlier attempt.

    A file that failed at the first attempt was then under another genre, as an error.
    """
    selector = fs.FileSelector(root, allow_not_found=True)
    with translating_store_errors(root):
        for folder in filesystem.get_file_info(selector):
            if folder.type != fs.FileType.Directory or folder.base_name in kept:
                continue
            stale = filesystem.get_file_info(f"{folder.path}/{name}")
            if stale.type == fs.FileType.File:
                filesystem.delete_file(stale.path)


def _folder(genre: str) -> str:
    return GENRE_FOLDER + genre.replace("/", "-")
