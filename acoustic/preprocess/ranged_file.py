"""A seekable file that fetches only the byte ranges that are read, e.g. from an object store.

Decoders read it like any file; a read of missing bytes fetches their blocks, with one request
for adjacent blocks.

Where the code that decodes cannot fetch, because it has no network, the file is made of the parts
that are at hand (`FileParts`): a read of other bytes fails with the ranges that are missing, and
the caller comes again with these, too.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

BLOCK_BYTES = 16 << 10

Range = tuple[int, int]
"""Start and stop, bytes."""

Fetch = Callable[[int, int], bytes]
"""Start and stop in bytes → exactly the bytes between them; raises what its store raises."""


class PartsError(Exception):
    """The parts of a file that are at hand do not suffice."""


class RangesUnavailableError(PartsError):
    """The file must be read whole."""


class BytesMissingError(PartsError):
    """More parts are needed.

    Attributes:
        ranges: start and stop of what is missing, whole blocks, bytes.
    """

    def __init__(self, ranges: tuple[Range, ...]) -> None:
        super().__init__(ranges)
        self.ranges = ranges


@dataclass(frozen=True, slots=True)
class FileParts:
    """Where the bytes at hand lie in their file.

    Attributes:
        size_bytes: size of the whole file, bytes.
        ranges: start and stop of each part, in rising order and apart from each other; they are
            whole blocks, but for the end of the file.
    """

    size_bytes: int
    ranges: tuple[Range, ...]

    def file(self, data: bytes | memoryview) -> RangedFile:
        """The file, of which reads of other parts fail with BytesMissingError.

        Args:
            data: the parts, one behind the other.
        """
        found = RangedFile(_missing, self.size_bytes)
        begun = 0
        for start, stop in self.ranges:
            found.put(start, data[begun : begun + stop - start])
            begun += stop - start
        return found


def _missing(start: int, stop: int) -> bytes:
    raise BytesMissingError(((start, stop),))


class RangedFile(io.RawIOBase):
    """A seekable file over byte ranges of a stored one.

    Args:
        fetch: function that returns one range of the stored file.
        size_bytes: size of the whole file, bytes.

    Attributes:
        size_bytes: size of the whole file, bytes.
        fetched_bytes: bytes fetched so far.
        begun: where the file begins that is read and sought, bytes; `peek` counts from 0.
        failure: error of the last failed read, or None. An exception cannot leave a decoder's
            callback, so the code that decodes must check this after each call. A read of bytes
            that are missing ends as at the end of the file.
    """

    def __init__(self, fetch: Fetch, size_bytes: int) -> None:
        super().__init__()
        self.size_bytes = size_bytes
        self.fetched_bytes = 0
        self.begun = 0
        self.failure: Exception | None = None
        self._fetch = fetch
        self._content = bytearray(size_bytes)
        self._blocks = bytearray(-(-size_bytes // BLOCK_BYTES))
        self._position = 0

    def require(self, start: int, stop: int) -> None:
        """Fetch the blocks of a range that are not fetched yet."""
        # Whole blocks: the start is rounded down, the stop rounded up (-(-a // b) is a ceiling).
        first = max(0, start) // BLOCK_BYTES
        end = -(-min(stop, self.size_bytes) // BLOCK_BYTES)
        for begun, ended in self._missing(first, end):
            here, there = begun * BLOCK_BYTES, min(ended * BLOCK_BYTES, self.size_bytes)
            found = self._fetch(here, there)
            if len(found) != there - here:  # assigning it would move everything behind
                raise ValueError(f"a fetch returned {len(found)} of {there - here} bytes")
            self.put(here, found)
            self.fetched_bytes += there - here

    def put(self, start: int, part: bytes | memoryview) -> None:
        """Add bytes that are known.

        Args:
            start: where they lie, a multiple of BLOCK_BYTES.
            part: whole blocks, but for the end of the file.

        Raises:
            ValueError: they are not.
        """
        stop = start + len(part)
        is_whole = stop % BLOCK_BYTES == 0 or stop == self.size_bytes
        if start % BLOCK_BYTES or not is_whole or stop > self.size_bytes:
            raise ValueError(f"bytes {start} to {stop} of {self.size_bytes} are not whole blocks")
        self._content[start:stop] = part
        first, end = start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)
        self._blocks[first:end] = bytes([True]) * (end - first)

    def peek(self, start: int, stop: int) -> bytes:
        """Return the bytes of a range, fetching missing ones; fewer at the end of the file."""
        self.require(start, stop)
        return bytes(self._content[start : min(stop, self.size_bytes)])

    def whole(self) -> bytes:
        """Return all bytes of the file, fetching what is missing."""
        return self.peek(0, self.size_bytes)

    def _missing(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """Start and stop of each run of adjacent missing blocks, from `first` up to `end`."""
        block = first
        while block < end:
            begun = block
            while block < end and not self._blocks[block]:
                block += 1
            if block > begun:
                yield begun, block
            else:
                block += 1

    # ---- io.RawIOBase

    def readable(self) -> bool:
        """Return True: the file supports reading."""
        return True

    def seekable(self) -> bool:
        """Return True: the file supports seeking."""
        return True

    def tell(self) -> int:
        """Return the current position, bytes from `begun`."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Seek; positions before the start, which damaged headers ask for, clamp to 0."""
        origin = {
            io.SEEK_SET: 0,
            io.SEEK_CUR: self._position,
            io.SEEK_END: self.size_bytes - self.begun,
        }
        self._position = max(0, origin[whence] + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Read from the position into `buffer`; return the number of bytes, 0 at the end."""
        start = self.begun + self._position
        stop = min(start + len(buffer), self.size_bytes)
        n = max(0, stop - start)
        if n:
            try:
                self.require(start, stop)
            except PartsError as error:  # expected; raised in a callback it would be printed
                self.failure = error
                return 0
            except Exception as error:  # lost inside a C decoder: keep it for the caller
                self.failure = error
                raise
            buffer[:n] = self._content[start:stop]
            self._position += n
        return n
