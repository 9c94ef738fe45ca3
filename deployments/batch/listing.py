"""Lists the files of a job's sources: folders, globs, object-store prefixes, manifests.

A file that two sources name is listed once.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import pyarrow
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from pyarrow import fs

from acoustic.errors import ConfigError
from acoustic.preprocess.containers.sniff import SUFFIXES
from deployments.batch.schema import COSTS, RESERVED
from deployments.batch.source_file import CHECKSUMS, SourceFile
from deployments.batch.storage import (
    StorageOptions,
    as_source_error,
    open_filesystem,
    split_scheme,
)

MANIFEST_SUFFIXES = (".csv", ".parquet", ".jsonl")
URI_COLUMNS = ("uri", "path", "file")
WILDCARD = re.compile(r"[*?\[]")


def list_files(sources: Sequence[str], options: StorageOptions) -> list[SourceFile]:
    """All files of all sources, in order, each once.

    Raises:
        ConfigError: a source does not exist, cannot be listed or has no audio, or a manifest
            is not valid.
    """
    found: dict[str, SourceFile] = {}
    for source in sources:
        n_before = len(found)
        for file in _list(source, options):
            found.setdefault(file.uri, file)
        if len(found) == n_before and not _is_manifest(source):
            raise ConfigError(f"{source} has no audio file, or only files of the sources before it")
    return list(found.values())


def _list(source: str, options: StorageOptions) -> Iterator[SourceFile]:
    filesystem, path = open_filesystem(source, options)
    try:
        if _is_manifest(source):
            yield from _read_manifest(source, filesystem, path)
        elif WILDCARD.search(path) and not _is_there(filesystem, path):
            yield from _glob(source, filesystem, path)
        else:
            yield from _walk(source, filesystem, path)
    except OSError as error:
        raise ConfigError(as_source_error(error, source).message) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{source} has a file whose name is not UTF-8, after {error.object[: error.start]!r}: "
            "rename it"
        ) from error


def _is_there(filesystem: fs.FileSystem, path: str) -> bool:
    """Whether a path exists as written: a folder named `Album [2020]` is not a pattern."""
    return bool(filesystem.get_file_info(path.rstrip("/")).type != fs.FileType.NotFound)


def _walk(source: str, filesystem: fs.FileSystem, path: str) -> Iterator[SourceFile]:
    info = filesystem.get_file_info(path.rstrip("/"))
    if info.type == fs.FileType.File:
        yield SourceFile(uri=_uri(source, info.path), size_bytes=info.size)
        return
    if info.type == fs.FileType.NotFound:
        raise FileNotFoundError(path)
    selector = fs.FileSelector(path.rstrip("/"), recursive=True)
    for each in sorted(filesystem.get_file_info(selector), key=lambda each: each.path):
        if each.type == fs.FileType.File and _is_audio(each.path):
            yield SourceFile(uri=_uri(source, each.path), size_bytes=each.size)


def _glob(source: str, filesystem: fs.FileSystem, path: str) -> Iterator[SourceFile]:
    """Files that match a glob: `**` spans folders, `*` does not."""
    # list only the last folder before the first wildcard
    fixed = path[: WILDCARD.search(path).start()]  # type: ignore[union-attr]
    folder = fixed.rpartition("/")[0]
    pattern = re.compile(_glob_pattern(path))
    selector = fs.FileSelector(folder, recursive=True)
    for each in sorted(filesystem.get_file_info(selector), key=lambda each: each.path):
        if each.type == fs.FileType.File and pattern.fullmatch(each.path):
            yield SourceFile(uri=_uri(source, each.path), size_bytes=each.size)


def _glob_pattern(path: str) -> str:
    """Regular expression of a glob: `**/` is any folders, `*` and `?` stay within a name."""
    tokens = re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|.", path)
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(known.get(token) or _class_or_text(token) for token in tokens)


def _class_or_text(token: str) -> str:
    """Regular expression of one token: `[ab]` and `[!ab]` are character classes."""
    if len(token) < 3 or not token.startswith("["):
        return re.escape(token)
    inside = token[1:-1].replace("\\", "\\\\").replace("^", "\\^")
    return f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"


def _read_manifest(source: str, filesystem: fs.FileSystem, path: str) -> Iterator[SourceFile]:
    with filesystem.open_input_stream(path) as stream:
        content = stream.read()
    try:
        table = _parse_manifest(source, content)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise ConfigError(f"manifest {source} cannot be read: {error}") from error
    column = next((name for name in URI_COLUMNS if name in table.column_names), None)
    if column is None:
        raise ConfigError(f"manifest {source} has no column {' or '.join(URI_COLUMNS)}")
    taken = (*RESERVED, *COSTS)
    clash = [name for name in table.column_names if name != column and name in taken]
    if clash:
        raise ConfigError(
            f"manifest {source} has columns that results have too: {', '.join(clash)}; rename them"
        )
    base = source.rpartition("/")[0]
    for number, row in enumerate(table.to_pylist(), start=1):
        if not row[column]:
            raise ConfigError(f"row {number} of manifest {source} has no {column}")
        texts = {k: "" if v is None else str(v) for k, v in row.items() if k != column}
        yield SourceFile(
            uri=_absolute(str(row[column]), base),
            checksums={k: texts[k].lower() for k in CHECKSUMS if texts.get(k)},
            extras=texts,
        )


def _parse_manifest(source: str, content: bytes) -> pyarrow.Table:
    if source.lower().endswith(".parquet"):
        return pyarrow.parquet.read_table(io.BytesIO(content))
    if source.lower().endswith(".jsonl"):
        return pyarrow.json.read_json(io.BytesIO(content))
    header = content.split(b"\n", 1)[0].decode().strip().split(",")
    # as text: pyarrow would read a value such as 007 as the number 7
    as_text = pyarrow.csv.ConvertOptions(
        column_types={name.strip('"'): pyarrow.string() for name in header}
    )
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    return pyarrow.csv.read_csv(io.BytesIO(content), parse_options=parse, convert_options=as_text)


def _absolute(uri: str, base: str) -> str:
    """Absolute form of a path that is relative to the manifest's own folder."""
    scheme, path = split_scheme(uri)
    if scheme or PurePosixPath(path).is_absolute():
        return uri
    if split_scheme(base)[0]:
        return f"{base}/{path}"
    _, folder = open_filesystem(base or ".", StorageOptions())
    return f"{folder}/{path}"


def _uri(source: str, path: str) -> str:
    scheme, _ = split_scheme(source)
    return path if scheme in ("", "file") else f"{scheme}://{path}"


def _is_audio(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)


def _is_manifest(source: str) -> bool:
    return source.lower().endswith(MANIFEST_SUFFIXES)
