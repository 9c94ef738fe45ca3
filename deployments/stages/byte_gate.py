"""Bounds the bytes that several tasks hold at a time; the tasks wait in the order they came."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteGate:
    """A semaphore that counts bytes.

    Args:
        max_bytes: bytes that are held at a time; one task alone may hold more.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.n_bytes = 0

    @asynccontextmanager
    async def holding(self, n_bytes: int) -> AsyncIterator[None]:
        """Wait until n_bytes fit, and hold them while the context lasts."""
        if self._waiting or not self._fits(n_bytes):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            entry = (n_bytes, turn)
            self._waiting.append(entry)
            try:
                await turn
            except asyncio.CancelledError:
                if entry in self._waiting:
                    self._waiting.remove(entry)
                elif not turn.cancelled():  # it was its turn already
                    self._release(n_bytes)
                raise
        else:
            self.n_bytes += n_bytes
        try:
            yield
        finally:
            self._release(n_bytes)

    def _fits(self, n_bytes: int) -> bool:
        return not self.n_bytes or self.n_bytes + n_bytes <= self._max_bytes

    def _release(self, n_bytes: int) -> None:
        self.n_bytes -= n_bytes
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            n_bytes, turn = self._waiting.popleft()
            if turn.cancelled():
                continue
            self.n_bytes += n_bytes
            turn.set_result(None)
