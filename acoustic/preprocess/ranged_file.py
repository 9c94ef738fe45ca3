"""A file of which only the parts that are touched are fetched.

Decoders read it like any file; a read of bytes that are not there yet fetches their blocks, by
one request for those that lie side by side. What is known without fetching can be filled in.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

BLOCK_BYTES = 16 << 10

Fetch = Callable[[int, int], bytes]
"""Start and stop, bytes → the bytes between them, exactly; raises what its store raises."""

_MISSING, _FETCHED, _FILLED = 0, 1, 2


class RangedFile(io.RawIOBase):
    """A seekable file over ranges of another one.

    Args:
        fetch: gets a range.
        size_bytes: of the whole file.

    Attributes:
        fetched_bytes: so far.
        failure: what a read in a decoder's callback has raised, which no exception can leave;
            whoever decodes must look at it.
    """

    def __init__(self, fetch: Fetch, size_bytes: int) -> None:
        super().__init__()
        self.size_bytes = size_bytes
        self.fetched_bytes = 0
        self.failure: Exception | None = None
        self._fetch = fetch
        self._content = bytearray(size_bytes)
        self._blocks = bytearray(-(-size_bytes // BLOCK_BYTES))
        self._position = 0

    def require(self, start: int, stop: int) -> None:
        """Fetch the blocks of a range that are neither fetched nor filled."""
        first = max(0, start) // BLOCK_BYTES
        end = -(-min(stop, self.size_bytes) // BLOCK_BYTES)
        for begun, ended in self._runs(_MISSING, first, end):
            here, there = begun * BLOCK_BYTES, min(ended * BLOCK_BYTES, self.size_bytes)
            self._content[here:there] = self._fetch(here, there)
            self._blocks[begun:ended] = bytes([_FETCHED]) * (ended - begun)
            self.fetched_bytes += there - here

    def peek(self, start: int, stop: int) -> bytes:
        """Bytes of a range, fetched where needed; fewer at the end of the file."""
        self.require(start, stop)
        return bytes(self._content[start : min(stop, self.size_bytes)])

    def whole(self) -> bytes:
        """All bytes, the missing ones fetched."""
        self.gaps()
        return self.peek(0, self.size_bytes)

    def gaps(self) -> list[tuple[int, int]]:
        """Start and stop of everything that is not fetched, in order."""
        self._blocks = bytearray(0 if b == _FILLED else b for b in self._blocks)
        return [
            (begun * BLOCK_BYTES, min(ended * BLOCK_BYTES, self.size_bytes))
            for begun, ended in self._runs(_MISSING, 0, len(self._blocks))
        ]

    def fill(self, start: int, content: bytes) -> None:
        """Put made-up bytes into a whole gap; they count as there until `gaps` is asked again."""
        stop = start + len(content)
        self._content[start:stop] = content
        first, end = start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)
        self._blocks[first:end] = bytes([_FILLED]) * (end - first)

    def _runs(self, state: int, first: int, end: int) -> Iterator[tuple[int, int]]:
        """Blocks side by side that are in a state."""
        block = first
        while block < end:
            begun = block
            while block < end and self._blocks[block] == state:
                block += 1
            if block > begun:
                yield begun, block
            else:
                block += 1

    # ---- the file

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Position, bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go somewhere; a place before the start, which damaged headers ask for, is the start."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size_bytes}
        self._position = max(0, origin[whence] + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Bytes from the position on."""
        stop = min(self._position + len(buffer), self.size_bytes)
        n = max(0, stop - self._position)
        if n:
            try:
                self.require(self._position, stop)
            except Exception as error:
                self.failure = error
                raise
            buffer[:n] = self._content[self._position : stop]
            self._position += n
        return n
