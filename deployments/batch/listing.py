"""Lists the files of a job's sources: folders, globs, object-store prefixes, manifests.

A file that two sources name is listed once.
"""

from __future__ import annotations

import glob
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow
import pyarrow.parquet
from pyarrow import fs

from acoustic.errors import ConfigError
from acoustic.file_walk import is_audio_name, walk_files
from acoustic.text_tables import TextTable, read_csv, read_json_lines
from deployments.batch.schema import COSTS, RESERVED
from deployments.batch.source_file import CHECKSUMS, UNKNOWN_SIZE, SourceFile
from deployments.batch.storage import (
    StorageOptions,
    as_source_error,
    open_filesystem,
    split_scheme,
)

MANIFEST_SUFFIXES = (".csv", ".parquet", ".jsonl")
URI_COLUMNS = ("uri", "path", "file")
WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """Files of a job's sources.

    Attributes:
        files: files in order, each once.
        n_skipped: number of files in folders that are not audio by their names.
        empty: sources that have no audio file, or only files of the sources before them.
    """

    files: list[SourceFile]
    n_skipped: int
    empty: list[str]


def list_files(sources: Sequence[str], options: StorageOptions) -> Listing:
    """All files of all sources, in order, each once.

    Raises:
        ConfigError: a source does not exist or cannot be listed, no source has audio, or a
            manifest is not valid.
    """
    found: dict[str, SourceFile] = {}
    n_skipped, empty = 0, []
    for source in sources:
        n_before = len(found)
        filesystem, path = open_filesystem(source, options)
        is_manifest = False
        try:
            is_manifest = _is_manifest(source) and not _is_folder(filesystem, path)
            if is_manifest:
                files = list(_read_manifest(source, filesystem, path))
            else:
                files, skipped = _list(source, filesystem, path)
                n_skipped += skipped
        except OSError as error:
            raise ConfigError(as_source_error(error, source).message) from error
        for file in files:
            found.setdefault(file.uri, file)
        if len(found) == n_before and not is_manifest:
            empty.append(source)
    if empty and not found:
        raise ConfigError(f"{' and '.join(empty)} has no audio file, by the ends of the names")
    return Listing(files=list(found.values()), n_skipped=n_skipped, empty=empty)


def _list(source: str, filesystem: fs.FileSystem, path: str) -> tuple[list[SourceFile], int]:
    """Files of a folder, a file or a glob, and the number of files that are not audio."""
    if WILDCARD.search(path) and not _is_there(filesystem, path):
        return _glob(source, filesystem, path), 0
    path = path.rstrip("/") or "/"
    if isinstance(filesystem, fs.LocalFileSystem):
        return _list_local(source, path)
    info = filesystem.get_file_info(path)
    if info.type == fs.FileType.File:
        return [_source_file(source, info)], 0
    if info.type == fs.FileType.NotFound:
        raise FileNotFoundError(path)
    files = _files_below(filesystem, path)
    audio = [each for each in files if is_audio_name(each.path)]
    return [_source_file(source, each) for each in audio], len(files) - len(audio)


def _list_local(source: str, path: str) -> tuple[list[SourceFile], int]:
    if os.path.isdir(path):
        found = walk_files(path)
        return [_local_file(each) for each in found.paths], found.n_skipped
    status = os.stat(path)
    return [SourceFile(uri=path, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns)], 0


def _local_file(path: str) -> SourceFile:
    try:
        status = os.stat(path)
        return SourceFile(uri=path, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns)
    except OSError:  # a broken link: its row will say so
        return SourceFile(uri=path)


def _is_there(filesystem: fs.FileSystem, path: str) -> bool:
    """Whether a path exists as written: a folder named `Album [2020]` is not a pattern."""
    if isinstance(filesystem, fs.LocalFileSystem):
        return os.path.exists(path)
    return bool(filesystem.get_file_info(path.rstrip("/")).type != fs.FileType.NotFound)


def _is_folder(filesystem: fs.FileSystem, path: str) -> bool:
    if isinstance(filesystem, fs.LocalFileSystem):
        return os.path.isdir(path)
    return bool(filesystem.get_file_info(path.rstrip("/")).type == fs.FileType.Directory)


def _files_below(filesystem: fs.FileSystem, folder: str) -> list[fs.FileInfo]:
    """Files below a folder of an object store, sorted."""
    found = filesystem.get_file_info(fs.FileSelector(folder, recursive=True))
    files = [each for each in found if each.type == fs.FileType.File]
    return sorted(files, key=lambda each: each.path)


def _source_file(source: str, info: fs.FileInfo) -> SourceFile:
    # some stores list a time of 0 while an object is read
    changed_ns = info.mtime_ns if info.mtime_ns and info.mtime_ns > 0 else UNKNOWN_SIZE
    return SourceFile(uri=_uri(source, info.path), size_bytes=info.size, mtime_ns=changed_ns)


def _glob(source: str, filesystem: fs.FileSystem, path: str) -> list[SourceFile]:
    """Files that match a glob: `**` spans folders, `*` does not."""
    # list only the last folder before the first wildcard
    fixed = path[: WILDCARD.search(path).start()]  # type: ignore[union-attr]
    folder = fixed.rpartition("/")[0]
    pattern = re.compile(_glob_pattern(path), re.DOTALL)
    if isinstance(filesystem, fs.LocalFileSystem):
        return _glob_local(folder or "/", path, pattern)
    return [
        _source_file(source, each)
        for each in _files_below(filesystem, folder)
        if pattern.fullmatch(each.path)
    ]


def _glob_local(folder: str, path: str, pattern: re.Pattern[str]) -> list[SourceFile]:
    """Local files that match; links in the folders that the pattern names are followed."""
    paths = {each for each in walk_files(folder, only_audio=False).paths if pattern.fullmatch(each)}
    known = {os.path.realpath(each) for each in paths}
    # the walk lists a file under its own name: a link that the pattern names is found by itself
    first = path[len(folder) :].lstrip("/").partition("**")[0].rstrip("/")
    for each in glob.iglob(os.path.join(glob.escape(folder), first)):
        below = walk_files(each, only_audio=False).paths if os.path.isdir(each) else [each]
        for file in below:
            if pattern.fullmatch(file) and os.path.realpath(file) not in known:
                known.add(os.path.realpath(file))
                paths.add(file)
    return [_local_file(each) for each in sorted(paths)]


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
    except (pyarrow.ArrowException, ValueError) as error:
        raise ConfigError(f"manifest {source} cannot be read: {error}") from error
    names = table.columns
    column = next((name for known in URI_COLUMNS for name in names if name.lower() == known), None)
    if column is None:
        raise ConfigError(f"manifest {source} has no column {' or '.join(URI_COLUMNS)}")
    taken = (*RESERVED, *COSTS)
    clash = [name for name in names if name != column and name in taken]
    if clash:
        raise ConfigError(
            f"manifest {source} has columns that results have too: {', '.join(clash)}; rename them"
        )
    base = source.rpartition("/")[0]
    for number, row in enumerate(table.rows, start=1):
        if not row.get(column):
            raise ConfigError(f"row {number} of manifest {source} has no {column}")
        texts = {name: row.get(name, "") for name in names if name != column}
        yield SourceFile(
            uri=_absolute(row[column], base),
            checksums={k: texts[k].lower() for k in CHECKSUMS if texts.get(k)},
            extras=texts,
        )


def _parse_manifest(source: str, content: bytes) -> TextTable:
    if source.lower().endswith(".jsonl"):
        return read_json_lines(content)
    if source.lower().endswith(".csv"):
        return read_csv(content)
    table = pyarrow.parquet.read_table(io.BytesIO(content))
    rows = [
        {name: "" if value is None else str(value) for name, value in row.items()}
        for row in table.to_pylist()
    ]
    return TextTable(table.column_names, rows)


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


def _is_manifest(source: str) -> bool:
    return source.lower().endswith(MANIFEST_SUFFIXES)
