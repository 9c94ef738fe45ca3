"""Reads files ahead of the decoder: a bounded number in parallel, with retries.

Ray Data's own reader ends the whole job at the first missing file and does not detect a changed
byte. Here a file that cannot be read gets an error of its own, after retries that wait longer each
time; a missing file or denied access is not retried.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

from pyarrow import fs

from acoustic.errors import (
    AcousticError,
    SourceCorruptError,
    SourceNotFoundError,
    SourceUnavailableError,
    UploadTooLargeError,
)
from acoustic.preprocess.ranged_file import RangedFile
from deployments.batch.backoff import with_retries
from deployments.batch.source_file import UNKNOWN_SIZE, SourceFile
from deployments.batch.storage import (
    StorageOptions,
    open_filesystem,
    split_scheme,
    translating_store_errors,
)

Result = TypeVar("Result")

STORED_RESOLUTION_S = 1.0
"""Some stores list times with fractions of a second, and return whole seconds with the object."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fetched:
    """Result of reading one file.

    Attributes:
        file: file that was read.
        data: content of the file; empty if reading failed.
        etag: the store's id of this version of the file; "" if the store has none.
        error: why reading failed; None if it succeeded.
    """

    file: SourceFile
    data: bytes = b""
    etag: str = ""
    error: AcousticError | None = None


def within(timeout_s: float, name: str, work: Callable[[], Result]) -> Result:
    """The result of some work in a thread, which is left behind if it takes too long.

    Raises:
        SourceUnavailableError: it takes longer than the limit.
    """
    done: SimpleQueue[tuple[Result | None, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            done.put((work(), None))
        except BaseException as error:
            done.put((None, error))

    threading.Thread(target=run, daemon=True, name="local-read").start()
    try:
        result, error = done.get(timeout=timeout_s)
    except Empty:
        raise SourceUnavailableError(f"{name} was not read within {timeout_s:g} s") from None
    if error is not None:
        raise error
    return cast(Result, result)


class Reader:
    """Reads files in order, several ahead.

    Args:
        storage: settings for object stores.
        n_threads: number of parallel reads, and the most files held in memory.
        max_file_bytes: largest file that is read, in bytes; a larger one is rejected.
    """

    def __init__(self, storage: StorageOptions, n_threads: int, max_file_bytes: int) -> None:
        self._storage = storage
        self._n_threads = n_threads
        self._max_file_bytes = max_file_bytes
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix="reader")
        self._filesystems: dict[str, fs.FileSystem] = {}

    def read(self, files: Sequence[SourceFile]) -> Iterator[Fetched]:
        """Yield every file in order, with its bytes or its error."""
        return self.each(files, self.fetch)

    def each(
        self, files: Sequence[SourceFile], work: Callable[[SourceFile], Result]
    ) -> Iterator[Result]:
        """Apply `work` to every file in the threads and yield the results in order."""
        # at most n_threads results wait here: a slow consumer holds the reads back
        ahead: deque[Future[Result]] = deque()
        for file in files:
            ahead.append(self._pool.submit(work, file))
            if len(ahead) >= self._n_threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def open_ranged(self, file: SourceFile) -> tuple[RangedFile, str]:
        """Open a file whose bytes are fetched when they are read; returns it and its etag.

        Raises:
            AcousticError: the file cannot be opened, or later its bytes cannot be fetched.
        """
        filesystem, path = self._open(file.uri)
        if isinstance(filesystem, fs.LocalFileSystem):
            _check_local(file, path)

        def opened() -> tuple[Any, int, str]:
            with translating_store_errors(file.name):
                stream = filesystem.open_input_file(path)
                size_bytes = stream.size()
                metadata = stream.metadata() or {}
            self._check_size(file, size_bytes)
            _check_stored(file, metadata)
            return stream, size_bytes, _etag(metadata)

        def fetch(start: int, stop: int) -> bytes:
            return with_retries(lambda: _read_range(file, stream, start, stop))

        stream, size_bytes, etag = with_retries(opened)
        return RangedFile(fetch, size_bytes), etag

    def fetch(self, file: SourceFile) -> Fetched:
        """Read one file; returns its bytes or its error."""
        try:
            return with_retries(lambda: self._fetch_once(file))
        except AcousticError as error:
            return Fetched(file=file, error=error)

    def _fetch_once(self, file: SourceFile) -> Fetched:
        """One attempt; a local file has a deadline: a network mount may hang for ever."""
        filesystem, path = self._open(file.uri)
        if not isinstance(filesystem, fs.LocalFileSystem):
            return self._read_whole(file, filesystem, path)
        return within(self._storage.timeout_s, file.name, lambda: self._read_local(file, path))

    def _read_local(self, file: SourceFile, path: str | bytes) -> Fetched:
        _check_local(file, path)
        return self._read_whole(file, fs.LocalFileSystem(), path)

    def _read_whole(
        self, file: SourceFile, filesystem: fs.FileSystem, path: str | bytes
    ) -> Fetched:
        with translating_store_errors(file.name), filesystem.open_input_file(path) as stream:
            size_bytes = stream.size()
            self._check_size(file, size_bytes)
            metadata = stream.metadata() or {}
            _check_stored(file, metadata)
            data: bytes = stream.read()
        if len(data) != size_bytes:
            raise SourceUnavailableError(
                f"{file.name} ended after {len(data)} of {size_bytes} bytes"
            )
        _verify(file, data)
        return Fetched(file=file, data=data, etag=_etag(metadata))

    def _check_size(self, file: SourceFile, size_bytes: int) -> None:
        if size_bytes > self._max_file_bytes:
            raise UploadTooLargeError(
                f"{file.name} has {size_bytes} bytes, limit is {self._max_file_bytes} bytes"
            )
        if file.size_bytes not in (UNKNOWN_SIZE, size_bytes):
            raise SourceCorruptError(
                f"{file.name} has {size_bytes} bytes, the listing says {file.size_bytes}"
            )

    def _open(self, uri: str) -> tuple[fs.FileSystem, str | bytes]:
        scheme, path = split_scheme(uri)
        if scheme not in self._filesystems:
            self._filesystems[scheme], _ = open_filesystem(uri, self._storage)
        # as bytes, because pyarrow would encode a local name as UTF-8, which it may not be
        return self._filesystems[scheme], path if scheme not in ("", "file") else os.fsencode(path)


def _read_range(file: SourceFile, stream: Any, start: int, stop: int) -> bytes:
    with translating_store_errors(file.name):
        data: bytes = stream.read_at(stop - start, start)
    if len(data) != stop - start:
        raise SourceUnavailableError(
            f"{file.name} returned {len(data)} of {stop - start} bytes of a range"
        )
    return data


def _verify(file: SourceFile, data: bytes) -> None:
    for name, wanted in file.checksums.items():
        found = hashlib.new(name, data, usedforsecurity=False).hexdigest()
        if found != wanted:
            raise SourceCorruptError(f"{file.name} has {name} {found}, the manifest says {wanted}")


def _etag(metadata: dict[str, bytes]) -> str:
    return metadata.get("ETag", b"").decode().strip('"')


def _check_stored(file: SourceFile, metadata: dict[str, bytes]) -> None:
    """Raise if an object was replaced after it was listed; the store may not say when it was."""
    said = metadata.get("Last-Modified", b"").decode()
    if file.mtime_ns == UNKNOWN_SIZE or not said:
        return
    try:
        changed = datetime.fromisoformat(said)
    except ValueError:  # another notation: nothing to compare
        return
    changed_s = (changed if changed.tzinfo else changed.replace(tzinfo=UTC)).timestamp()
    if abs(changed_s - file.mtime_ns / 1e9) > STORED_RESOLUTION_S:
        raise SourceCorruptError(f"{file.name} has changed since it was listed")


def _check_local(file: SourceFile, path: str | bytes) -> None:
    """Raise if a local file is none that can be read to its end, or has changed."""
    with translating_store_errors(file.name):
        status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # a pipe or a device would wait, or never end
        raise SourceNotFoundError(f"{file.name} is not a regular file")
    if file.mtime_ns not in (UNKNOWN_SIZE, status.st_mtime_ns):
        raise SourceCorruptError(f"{file.name} has changed since it was listed")
