"""Rows that are taken back, so that their files are done again.

An error row is a finished row. But where the fault was not the file's (the store was down, access
was denied, a replica failed) the file deserves another try: its row is cut out of its part first,
and from then on the file is one that has no row yet. A job that dies in between has lost nothing.
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
from deployments.batch.options import JobOptions
from deployments.batch.retry import persist
from deployments.batch.sink import read_part
from deployments.batch.storage import as_ours, open_filesystem, write_atomically

RETRIED_CODES = frozenset(
    error.code
    for error in (
        SourceUnavailableError, SourceForbiddenError, SourceNotFoundError, SourceCorruptError,
        ServiceError, ClassificationError,
    )
)  # fmt: skip
"""Errors that another try may help; what is wrong with the audio itself stays wrong."""


def take_back(options: JobOptions, retried: Mapping[str, Set[str]]) -> None:
    """Cut rows out of finished parts; a part without rows is removed.

    Args:
        options: of the job.
        retried: path of a part → ids of the rows.

    Raises:
        SourceUnavailableError, SourceForbiddenError: the output cannot be read or written.
    """
    filesystem, _ = open_filesystem(options.out, options.storage)
    for path, ids in retried.items():
        content = read_part(filesystem, path)
        left = _CUTS[path.rpartition(".")[2]](content, ids)
        if not left:
            persist(functools.partial(_delete, filesystem, path))
        elif left != content:
            write_atomically(filesystem, path, left)


def _delete(filesystem: fs.FileSystem, path: str) -> None:
    with as_ours(path):
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
