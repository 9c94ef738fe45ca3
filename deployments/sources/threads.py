"""Threads for reads that may hang."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from acoustic.errors import SourceUnavailableError

T = TypeVar("T")


class FewThreads:
    """Threads of their own: a mount that hangs keeps its thread, and no other work waits.

    Args:
        n_threads: number of threads.
    """

    def __init__(self, n_threads: int) -> None:
        self._threads = ThreadPoolExecutor(n_threads, thread_name_prefix="sources")
        self._n_threads = n_threads
        self.n_busy = 0

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns; whoever waits can be cancelled, the work cannot.

        Raises:
            SourceUnavailableError: all threads hang.
        """
        if self.n_busy >= self._n_threads:
            raise SourceUnavailableError("too many reads hang: a store or a mount does not answer")
        self.n_busy += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        future.add_done_callback(self._one_less)
        return await asyncio.shield(future)

    def _one_less(self, future: asyncio.Future[T]) -> None:
        self.n_busy -= 1
        if not future.cancelled():
            future.exception()  # looked at: nobody may be waiting any more
