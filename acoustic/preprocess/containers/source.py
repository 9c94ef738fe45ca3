"""Random access to a file's bytes: those in memory, or ranges of a stored file."""

from __future__ import annotations

from typing import Protocol

GOLDEN_RATIO = (5**0.5 - 1) / 2


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
        data: bytes that hold the file.
        begun: position in `data` where the file begins; nothing is copied.
    """

    def __init__(self, data: bytes, begun: int = 0) -> None:
        self._data, self._begun = data, begun
        self.size_bytes = len(data) - begun

    def peek(self, start: int, stop: int) -> bytes:
        """Bytes from `start` to `stop`; fewer at the end of the file."""
        return self._data[self._begun + start : self._begun + stop]


def uneven_places(n: int) -> list[float]:
    """N places in [0, 1), the first at 0, at uneven distances.

    Even ones would meet joined files of equal length in the same or in rising places of each.

    >>> [round(place, 2) for place in uneven_places(4)]
    [0.0, 0.24, 0.62, 0.85]
    """
    return sorted(i * GOLDEN_RATIO % 1 for i in range(n))
