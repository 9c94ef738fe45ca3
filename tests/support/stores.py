"""Fake stores that fail, or return less than they have, on chosen requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class FakeStore:
    """A file system of one object, whose requests a test may change.

    Args:
        content: bytes of the object.
        fault: number of the request, from 0 → exception to raise, bytes to return instead, or
            None for a correct reply.
        etag: what the store calls this version of the object.
    """

    def __init__(
        self,
        content: bytes,
        fault: Callable[[int], Exception | bytes | None] = lambda number: None,
        etag: str = "",
    ) -> None:
        self.content = content
        self.fault = fault
        self.etag = etag
        self.opened: list[str] = []
        self.n_requests = 0
        self.written: dict[str, bytes] = {}

    def open_input_file(self, path: str) -> FakeStream:
        self.opened.append(path)
        return FakeStream(self)

    def open_output_stream(self, path: str) -> FakeStream:
        self.opened.append(path)
        return FakeStream(self, path)

    def reply(self, content: bytes) -> bytes:
        """Bytes of the next request, after its fault."""
        fault = self.fault(self.n_requests)
        self.n_requests += 1
        if isinstance(fault, Exception):
            raise fault
        return content if fault is None else fault


class FakeStream:
    """An opened object of a FakeStore."""

    def __init__(self, store: FakeStore, path: str = "") -> None:
        self._store, self._path = store, path

    def __enter__(self) -> FakeStream:
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def size(self) -> int:
        return len(self._store.content)

    def metadata(self) -> dict[str, bytes] | None:
        return {"ETag": f'"{self._store.etag}"'.encode()} if self._store.etag else None

    def read(self) -> bytes:
        return self._store.reply(self._store.content)

    def read_at(self, n_bytes: int, offset: int) -> bytes:
        return self._store.reply(self._store.content[offset : offset + n_bytes])

    def write(self, content: bytes) -> None:
        self._store.written[self._path] = self._store.reply(content)
