"""Random access to a file's bytes: those in memory, or ranges of a stored file."""

from __future__ import annotations

from typing import Protocol


class ByteSource(Protocol):
    """Bytes of a file, wherever they are; `RangedFile` is one.

    Attributes:
        size_bytes: size of the whole file, bytes.
    """

    size_bytes: int

    def peek(self, start: int, stop: int) -> bytes:
        """Bytes from `start` to `stop`; fewer at the end of the file."""


class WholeFile:
    """A file whose bytes are all in memory.

    Args:
        data: content of the file.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size_bytes = len(data)

    def peek(self, start: int, stop: int) -> bytes:
        """Bytes from `start` to `stop`; fewer at the end of the file."""
        return self.data[start:stop]
