"""Files on the disks of the service."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

from acoustic.errors import SourceForbiddenError, SourceNotFoundError, SourceUnavailableError
from deployments.sources.remote_file import changed
from deployments.sources.threads import FewThreads


class LocalFile:
    """A regular file whose real path is under a root, also when it is open; see `Place`.

    Args:
        file: the open file, which it closes.
        threads: threads in which it is read.
    """

    has_ranges = True

    def __init__(self, file: FileIO, threads: FewThreads) -> None:
        self._file, self._threads = file, threads
        self._status = os.fstat(file.fileno())
        self.size_bytes: int | None = self._status.st_size

    async def read(self, start: int, stop: int) -> bytes:
        """See `Place.read`."""
        return await self._threads.run(lambda: self._read(start, stop))

    async def whole(self, max_bytes: int) -> bytes:
        """See `Place.whole`."""
        return await self._threads.run(lambda: self._read(0, self._status.st_size))

    def _read(self, start: int, stop: int) -> bytes:
        content, handle = bytearray(), self._file.fileno()
        try:
            while len(content) < stop - start:
                part = os.pread(handle, stop - start - len(content), start + len(content))
                if not part:
                    raise changed()
                content += part
            status = os.fstat(handle)
        except OSError as error:
            raise SourceUnavailableError("the file cannot be read") from error
        if (status.st_size, status.st_mtime_ns) != (self._status.st_size, self._status.st_mtime_ns):
            raise changed()
        return bytes(content)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_local(path: str, roots: Sequence[str], threads: FewThreads) -> LocalFile:
    """Open a file.

    Args:
        path: path of the file.
        roots: real paths of the folders that are allowed.
        threads: threads in which it is read.

    Raises:
        SourceForbiddenError: its real path is under no root.
        SourceNotFoundError: it does not exist, or is not a regular file.
    """
    real = os.path.realpath(path)
    _check_root(real, roots)
    try:
        # a FIFO or a device would wait, or never end
        handle = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise SourceNotFoundError("the file does not exist") from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise SourceNotFoundError("that is not a regular file")
        opened = Path(f"/proc/self/fd/{handle}")
        if opened.exists():  # a folder on the way may have become a link meanwhile
            _check_root(os.path.realpath(opened), roots)
    except BaseException:
        os.close(handle)
        raise
    return LocalFile(FileIO(handle), threads)


def _check_root(real: str, roots: Sequence[str]) -> None:
    if not any(os.path.commonpath((root, real)) == root for root in roots):
        raise SourceForbiddenError("that file is not in a folder that the operator allows")
