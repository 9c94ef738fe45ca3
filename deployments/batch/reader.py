"""Reads files ahead of the decoder: several at a time, a bounded number, and again when it fails.

Ray Data's own reader ends the whole job at the first file that is gone, and does not notice a
changed byte. Here a file that cannot be read is an error of its own, after tries that wait longer
each time; a missing file or a denied one is not tried again.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from pyarrow import fs

from acoustic.errors import (
    AcousticError,
    SourceCorruptError,
    SourceUnavailableError,
    UploadTooLargeError,
)
from acoustic.preprocess.ranged_file import RangedFile
from deployments.batch.files import UNKNOWN_SIZE, SourceFile
from deployments.batch.retry import persist
from deployments.batch.storage import StorageOptions, as_ours, open_filesystem, split_scheme

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fetched:
    """What reading a file gave.

    Attributes:
        file: that was read.
        data: its bytes; empty where it failed.
        etag: what the store calls this version of it, "" if it has no name for it.
        error: why it failed, None if it did not.
    """

    file: SourceFile
    data: bytes = b""
    etag: str = ""
    error: AcousticError | None = None


class Reader:
    """Reads files in order, some ahead.

    Args:
        storage: of object stores.
        n_threads: reads at a time; as many files are held in memory at most.
        max_file_bytes: larger files are refused.
    """

    def __init__(self, storage: StorageOptions, n_threads: int, max_file_bytes: int) -> None:
        self._storage = storage
        self._n_threads = n_threads
        self._max_file_bytes = max_file_bytes
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix="reader")
        self._filesystems: dict[str, fs.FileSystem] = {}

    def read(self, files: Sequence[SourceFile]) -> Iterator[Fetched]:
        """Every file, in order, with its bytes or its error."""
        return self.each(files, self.fetch)

    def each(
        self, files: Sequence[SourceFile], work: Callable[[SourceFile], Result]
    ) -> Iterator[Result]:
        """Something done to every file by the threads, in order, a bounded number ahead."""
        ahead: deque[Future[Result]] = deque()
        for file in files:
            ahead.append(self._pool.submit(work, file))
            if len(ahead) >= self._n_threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def open_ranged(self, file: SourceFile) -> tuple[RangedFile, str]:
        """The file with its bytes to be fetched as they are read, and its etag.

        Raises:
            AcousticError: it cannot be opened, now or when its bytes are fetched.
        """
        filesystem, path = self._open(file.uri)

        def opened() -> tuple[Any, int, str]:
            with as_ours(file.uri):
                stream = filesystem.open_input_file(path)
                size_bytes = stream.size()
                etag = (stream.metadata() or {}).get("ETag", b"").decode().strip('"')
            self._check_size(file, size_bytes)
            return stream, size_bytes, etag

        def fetch(start: int, stop: int) -> bytes:
            return persist(lambda: _read_range(file, stream, start, stop))

        stream, size_bytes, etag = persist(opened)
        return RangedFile(fetch, size_bytes), etag

    def fetch(self, file: SourceFile) -> Fetched:
        """One file, with its bytes or its error."""
        try:
            return persist(lambda: self._fetch_once(file))
        except AcousticError as error:
            return Fetched(file=file, error=error)

    def _fetch_once(self, file: SourceFile) -> Fetched:
        filesystem, path = self._open(file.uri)
        with as_ours(file.uri), filesystem.open_input_file(path) as stream:
            size_bytes = stream.size()
            self._check_size(file, size_bytes)
            metadata = stream.metadata() or {}
            data: bytes = stream.read()
        if len(data) != size_bytes:
            raise SourceUnavailableError(
                f"{file.uri} broke off after {len(data)} of {size_bytes} bytes"
            )
        _verify(file, data)
        etag = metadata.get("ETag", b"").decode().strip('"')
        return Fetched(file=file, data=data, etag=etag)

    def _check_size(self, file: SourceFile, size_bytes: int) -> None:
        if size_bytes > self._max_file_bytes:
            raise UploadTooLargeError(
                f"{file.uri} has {size_bytes} bytes, limit is {self._max_file_bytes}"
            )
        if file.size_bytes not in (UNKNOWN_SIZE, size_bytes):
            raise SourceCorruptError(
                f"{file.uri} has {size_bytes} bytes, {file.size_bytes} were listed"
            )

    def _open(self, uri: str) -> tuple[fs.FileSystem, str]:
        scheme, path = split_scheme(uri)
        if scheme not in self._filesystems:
            self._filesystems[scheme], _ = open_filesystem(uri, self._storage)
        return self._filesystems[scheme], path


def _read_range(file: SourceFile, stream: Any, start: int, stop: int) -> bytes:
    with as_ours(file.uri):
        data: bytes = stream.read_at(stop - start, start)
    if len(data) != stop - start:
        raise SourceUnavailableError(
            f"{file.uri} gave {len(data)} of {stop - start} bytes of a range"
        )
    return data


def _verify(file: SourceFile, data: bytes) -> None:
    for name, wanted in file.checksums.items():
        found = hashlib.new(name, data, usedforsecurity=False).hexdigest()
        if found != wanted:
            raise SourceCorruptError(f"{file.uri} has {name} {found}, {wanted} was promised")
