"""Removes retryable error rows from the part files, so that their files are processed again.

A file with an error row is finished. But where the file was not at fault (the store was down,
access was denied, a replica failed) it is tried again: its row is removed from its part first, and
from then on it counts as a file without a row. A job that dies in between loses nothing.
"""

from __future__ import annotations

import csv
import functools
import io
import json
from collections.abc import Mapping, Set

import pyarrow.parquet
from pyarrow import fs

from acoustic.errors import (
    ClassificationError,
    ServiceError,
    SourceCorruptError,
    SourceForbiddenError,
    SourceNotFoundError,
    SourceUnavailableError,
)
from deployments.batch.backoff import with_retries
from deployments.batch.job_options import JobOptions
from deployments.batch.parts import read_part
from deployments.batch.storage import open_filesystem, translating_store_errors, write_atomically

RETRIED_CODES = frozenset(
    error.code
    for error in (
        SourceUnavailableError, SourceForbiddenError, SourceNotFoundError, SourceCorruptError,
        ServiceError, ClassificationError,
    )
)  # fmt: skip
"""Codes of errors that a retry may fix; errors of the audio itself are not retried."""


def remove_rows(options: JobOptions, retried: Mapping[str, Set[str]]) -> None:
    """Remove rows from finished parts; a part without rows is deleted.

    Args:
        options: options of the job.
        retried: path of a part → ids of the rows to remove.

    Raises:
        SourceUnavailableError, SourceForbiddenError: the output cannot be read or written.
    """
    filesystem, _ = open_filesystem(options.out, options.storage)
    for path, ids in retried.items():
        content = read_part(filesystem, path)
        left = _CUTS[path.rpartition(".")[2]](content, ids)
        if not left:  # every row was removed
            with_retries(functools.partial(_delete, filesystem, path))
        elif left != content:
            write_atomically(filesystem, path, left)


def _delete(filesystem: fs.FileSystem, path: str) -> None:
    with translating_store_errors(path):
        filesystem.delete_file(path)


def _cut_parquet(content: bytes, ids: Set[str]) -> bytes:
    table = pyarrow.parquet.read_table(io.BytesIO(content))
    kept = [text not in ids for text in table["id"].to_pylist()]
    if all(kept):
        return content
    if not any(kept):
        return b""
    file = io.BytesIO()
    pyarrow.parquet.write_table(table.filter(kept), file, compression="zstd")
    return file.getvalue()


def _cut_jsonl(content: bytes, ids: Set[str]) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join(line for line in lines if json.loads(line)["id"] not in ids)


def _cut_csv(content: bytes, ids: Set[str]) -> bytes:
    header, *rows = csv.reader(io.StringIO(content.decode(), newline=""))
    kept = [row for row in rows if row[header.index("id")] not in ids]
    if len(kept) == len(rows):
        return content
    file = io.StringIO(newline="")
    csv.writer(file).writerows([header, *kept])
    return file.getvalue().encode() if kept else b""


_CUTS = {"parquet": _cut_parquet, "jsonl": _cut_jsonl, "csv": _cut_csv}
