"""Part files: written whole or not at all, under a name that follows from the files in them.

A chunk that is written again, because a worker died after the write, replaces its own part. What
a part has is finished; so the parts themselves are the record that a job resumes by.
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
from deployments.batch.options import Format, JobOptions
from deployments.batch.retry import persist
from deployments.batch.schema import RESERVED, row_schema
from deployments.batch.storage import (
    StorageOptions,
    as_ours,
    open_filesystem,
    write_atomically,
)
from deployments.batch.tables import COSTS

PREFIX = "part-"
GENRE_FOLDER = "top_genre="
NO_GENRE = "none"
CSV_COLUMNS = (
    "id", "uri", "size_bytes", "etag", "content_sha256", "duration_s", "format", "top_genre",
    "confidence", "prediction_set", "family", "needs_review", "reasons", "model", "config_digest",
    "error_code", "error_message",
)  # fmt: skip


def write(table: pa.Table, options: JobOptions, extras: list[str]) -> pa.Table:
    """ROWS to a part file, and one row that tells what it has and what it cost.

    Args:
        table: a chunk.
        options: of the job.
        extras: columns that manifests pass through.
    """
    rows = [json.loads(text) for text in table["row"].to_pylist()]
    costs = {name: sum(row.pop(name) for row in rows) for name in COSTS}
    begun_s = time.perf_counter()
    failure = ""
    try:
        write_part(rows, row_schema(extras), options)
    except AcousticError as error:  # as a value: what a task raises reaches the driver wrapped
        failure = error.message
    errors = [row["error_code"] for row in rows if row["error_code"]]
    told = {
        **costs,
        "n_files": len(rows),
        "n_errors": len(errors),
        "first_error": errors[0] if errors else "",
        "failure": failure,
        "size_bytes": sum(row["size_bytes"] for row in rows),
        "write_s": time.perf_counter() - begun_s,
    }
    return pa.Table.from_pylist([told])


def write_part(rows: list[dict[str, Any]], schema: pa.Schema, options: JobOptions) -> None:
    """Write a chunk.

    Args:
        rows: at least one.
        schema: of a part.
        options: where to and how.
    """
    filesystem, root = open_filesystem(options.out, options.storage)
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
    """A part's bytes."""
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
    """Paths of all finished parts, in order.

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
    """Path of every finished part and some of its columns.

    Raises:
        SourceUnavailableError, SourceForbiddenError: a part cannot be read, after several tries.
        ConfigError: a part is none of this job's, or damaged.
    """
    filesystem, _ = open_filesystem(out, storage)
    for path in list_parts(out, storage):
        content = read_part(filesystem, path)
        try:
            table = _parse_columns(path, content, list(columns))
        except (pa.ArrowException, ValueError, KeyError) as error:
            raise ConfigError(f"{path} is no part that can be read") from error
        yield path, table


def read_part(filesystem: fs.FileSystem, path: str) -> bytes:
    """A part's bytes, by one request; tried again when the store fails.

    Raises:
        SourceUnavailableError, SourceForbiddenError, SourceNotFoundError: it cannot be read.
    """
    return persist(functools.partial(_read_once, filesystem, path))


def _read_once(filesystem: fs.FileSystem, path: str) -> bytes:
    with as_ours(path), filesystem.open_input_file(path) as stream:
        content: bytes = stream.read()
    return content


def _parse_columns(path: str, content: bytes, columns: list[str]) -> pa.Table:
    if path.endswith(".parquet"):
        return pyarrow.parquet.read_table(io.BytesIO(content), columns=columns)
    if path.endswith(".jsonl"):
        rows = [json.loads(line) for line in content.splitlines()]
        return pa.Table.from_pylist([{c: r[c] for c in columns} for r in rows])
    convert = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()))
    return pyarrow.csv.read_csv(io.BytesIO(content), convert_options=convert).select(columns)


def _encode_csv(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes:
    """One line a file; sets and reasons as lists of names."""
    names = [*CSV_COLUMNS, *(name for name in schema.names if name not in RESERVED)]
    file = io.StringIO()
    writer = csv.DictWriter(file, names, extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        flat = {
            "prediction_set": "; ".join((row.get("prediction_set") or {}).get("genres", [])),
            "family": (row.get("family") or {}).get("name", ""),
            "reasons": "; ".join(each["code"] for each in row.get("reasons") or []),
            "model": (row.get("model") or {}).get("digest", ""),
        }
        writer.writerow({**row, **flat})
    return file.getvalue().encode()


def _remove_stale(filesystem: fs.FileSystem, root: str, name: str, kept: set[str]) -> None:
    """A first try of this chunk may have put a file under another genre, as an error."""
    selector = fs.FileSelector(root, allow_not_found=True)
    for folder in filesystem.get_file_info(selector):
        if folder.type != fs.FileType.Directory or folder.base_name in kept:
            continue
        stale = filesystem.get_file_info(f"{folder.path}/{name}")
        if stale.type == fs.FileType.File:
            filesystem.delete_file(stale.path)


def _folder(genre: str) -> str:
    return GENRE_FOLDER + genre.replace("/", "-")
