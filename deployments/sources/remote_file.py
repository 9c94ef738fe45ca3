"""A file in its place, of which the parts are read that are asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from typing import Protocol, TypeVar

from acoustic.errors import AudioDecodeError, SourceUnavailableError, UploadTooLargeError
from acoustic.preprocess.ranged_file import BLOCK_BYTES, FileParts, Range

T = TypeVar("T")

HEAD_BYTES = 1 << 20
"""What is read first, and read at least each time: a request to a store takes as long as that."""

WHOLE_BYTES = 4 << 20
"""Files up to this size are read whole: parts of them would not be much less."""


class Place(Protocol):
    """A file that is open in its place.

    Attributes:
        size_bytes: its size, bytes; None where the place does not state it.
        has_ranges: whether parts of it can be read.
    """

    size_bytes: int | None
    has_ranges: bool

    async def read(self, start: int, stop: int) -> bytes:
        """The bytes from start to stop, exactly.

        Raises:
            SourceUnavailableError: the place does not answer, or the file changed meanwhile.
        """

    async def whole(self, max_bytes: int) -> bytes:
        """All bytes, or more than max_bytes of them; raises as `read`."""


class RemoteFile:
    """What is known of a file in its place.

    Args:
        place: the file.
        max_bytes: most bytes that are read of it.
        max_file_bytes: largest file of which parts are read.
        timeout_s: longest time to read, seconds.

    Raises:
        UploadTooLargeError: it is larger than the limit.
    """

    def __init__(self, place: Place, max_bytes: int, max_file_bytes: int, timeout_s: float) -> None:
        self._place, self._max_bytes, self._timeout_s = place, max_bytes, timeout_s
        self._left_s = timeout_s
        self._parts: dict[int, bytes] = {}
        self.in_parts = place.has_ranges and (place.size_bytes or 0) > WHOLE_BYTES
        _check_size(place.size_bytes or 0, max_file_bytes if self.in_parts else max_bytes)

    @property
    def n_read_bytes(self) -> int:
        """Bytes that were read, and are kept, of a file in parts."""
        return sum(map(len, self._parts.values()))

    @property
    def fits_whole(self) -> bool:
        """Whether it may be read whole, as far as its size is known."""
        return (self._place.size_bytes or 0) <= self._max_bytes

    def parts(self) -> tuple[bytes, FileParts]:
        """The bytes that were read, one part behind the other, and where they lie in the file."""
        found = sorted(self._parts.items())
        ranges = tuple((start, start + len(part)) for start, part in found)
        return b"".join(part for _, part in found), FileParts(self._place.size_bytes or 0, ranges)

    async def whole(self) -> bytes:
        """All bytes.

        Raises:
            UploadTooLargeError: there are more than the limit.
            SourceUnavailableError: see `fetch`.
        """
        if not self.fits_whole:
            raise UploadTooLargeError(
                f"the file is {self._place.size_bytes:,} bytes and must be read whole, limit is "
                f"{self._max_bytes:,} bytes"
            )
        self._parts.clear()
        content = await self._in_time(self._place.whole(self._max_bytes))
        _check_size(len(content), self._max_bytes)
        return content

    async def fetch(self, missing: Sequence[Range]) -> None:
        """Read the ranges that are missing, and what lies behind them.

        Raises:
            SourceUnavailableError: the place does not answer, or not in time.
            UploadTooLargeError: more would be read than the limit.
            AudioDecodeError: nothing of it is missing, so no reading would help.
        """
        n_before = self.n_read_bytes
        for wanted in missing:
            for start, stop in self._unread(*wanted):
                _check_size(self.n_read_bytes + stop - start, self._max_bytes)
                self._parts[start] = await self._in_time(self._place.read(start, stop))
        if self.n_read_bytes == n_before:
            raise AudioDecodeError("the audio cannot be decoded: its parts are never complete")

    def _unread(self, start: int, stop: int) -> list[Range]:
        """What to read for a range: from whole blocks, HEAD_BYTES or more, nothing twice."""
        size_bytes = self._place.size_bytes or 0
        start = max(0, start) // BLOCK_BYTES * BLOCK_BYTES
        stop = min(max(-(-stop // BLOCK_BYTES) * BLOCK_BYTES, start + HEAD_BYTES), size_bytes)
        found = []
        for begun, part in sorted(self._parts.items()):
            if begun + len(part) <= start:
                continue
            if begun >= stop:
                break
            if begun > start:
                found.append((start, begun))
            start = begun + len(part)
        return [*found, (start, stop)] if start < stop else found

    async def _in_time(self, reading: Awaitable[T]) -> T:
        """What a place says; all that is read of a file shares its time."""
        begun_s = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, self._left_s)):
                return await reading
        except TimeoutError as error:
            raise late(self._timeout_s) from error
        finally:
            self._left_s -= time.monotonic() - begun_s


def late(timeout_s: float) -> SourceUnavailableError:
    """The error of a file that takes too long."""
    return SourceUnavailableError(f"the file was not read within {timeout_s:g} s")


def changed() -> SourceUnavailableError:
    """The error of a file of which another version was met."""
    return SourceUnavailableError("the file changed while it was read; try again")


def _check_size(n_bytes: int, max_bytes: int) -> None:
    if n_bytes > max_bytes:
        raise UploadTooLargeError(
            f"the file is {n_bytes:,} bytes or more, limit is {max_bytes:,} bytes"
        )
