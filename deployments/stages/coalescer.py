"""Batches the items of concurrent callers; an item that fails does not fail its batch. No Ray.

`@serve.batch` forms a batch before the previous one has finished, so under load the next batches
contain only what has arrived by then: they shrink when they should grow. Here every batch that it
hands over is only put on a pending list; the caller that holds the lock takes as much from the
list as one model call may hold, first come first served.

A call that raises is split in two and tried again, down to single items, so that a bad item costs
the other items of its batch some time but never their answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from acoustic.classify.bisect import run_bisecting
from deployments.telemetry.batch_facts import BatchFacts

Item = TypeVar("Item")
Result = TypeVar("Result")


class DroppedError(Exception):
    """Result of an item that was dropped; nobody waits for it."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[Item, Result]):
    """An item on the pending list, its arrival time and the future of its result."""

    item: Item
    since_s: float
    future: asyncio.Future[Result | Exception]


class Coalescer(Generic[Item, Result]):
    """Runs a synchronous batch function for many concurrent callers.

    Args:
        run: turns items into as many results in the same order; called from one thread at a time.
        size: returns the size of one item, in the unit of `max_size`.
        max_size: largest total size of one call; a larger item has a call of its own.
        observe: called with the facts of every call, on the event loop.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        size: Callable[[Item], int],
        max_size: int,
        observe: Callable[[BatchFacts], None] = lambda facts: None,
    ) -> None:
        self._run = run
        self._size = size
        self._max_size = max_size
        self._observe = observe
        self._pending: deque[_Waiting[Item, Result]] = deque()
        self._running_size = 0
        self._lock = asyncio.Lock()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="coalescer")
        self.n_batches = 0
        self.n_items = 0
        self.largest_batch = 0

    @property
    def size_in_flight(self) -> int:
        """Total size of the items that wait or are being processed."""
        return self._running_size + sum(self._size(waiting.item) for waiting in self._pending)

    async def submit(self, items: Sequence[Item]) -> list[Result | Exception]:
        """Results in the order of the items; an item that fails alone gives its exception."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Result | Exception]] = [loop.create_future() for _ in items]
        now_s = time.perf_counter()
        pairs = zip(items, futures, strict=True)
        self._pending.extend(_Waiting(item, now_s, future) for item, future in pairs)
        # A caller runs batches from the head of the list until its own items are done: it may run
        # items of other callers first, and another caller may run its items.
        while not all(future.done() for future in futures):
            async with self._lock:
                if self._pending and not all(future.done() for future in futures):
                    await self._run_next(loop)
            if not self._pending:  # a cancelled holder took the rest; it still runs
                await asyncio.wait(futures)
        return [future.result() for future in futures]

    def drop(self, item: Item) -> None:
        """Leave an item out whose caller has gone, if it still waits."""
        for waiting in self._pending:
            if waiting.item is item:
                self._pending.remove(waiting)
                waiting.future.set_result(DroppedError())
                return

    async def _run_next(self, loop: asyncio.AbstractEventLoop) -> None:
        batch, size = self._take()
        self._running_size += size  # a sum: a cancelled holder's batch may still run
        begun_s = 0.0

        def work() -> list[Result | Exception]:
            nonlocal begun_s
            begun_s = time.perf_counter()
            return run_bisecting(self._run, [waiting.item for waiting in batch])

        running = loop.run_in_executor(self._executor, work)

        def finish(done: asyncio.Future[list[Result | Exception]]) -> None:
            self._running_size -= size
            _resolve(batch, done)
            self._observe(
                BatchFacts(
                    n_items=len(batch),
                    size=size,
                    waits_s=tuple(begun_s - waiting.since_s for waiting in batch),
                    run_s=time.perf_counter() - begun_s,
                )
            )

        running.add_done_callback(finish)
        await asyncio.wait([running])  # if this is cancelled, `finish` resolves the batch

    def _take(self) -> tuple[list[_Waiting[Item, Result]], int]:
        """As many items from the head of the list as fit into one call, and their total size."""
        batch = [self._pending.popleft()]
        n = self._size(batch[0].item)
        while self._pending and n + self._size(self._pending[0].item) <= self._max_size:
            batch.append(self._pending.popleft())
            n += self._size(batch[-1].item)
        self.n_batches += 1
        self.n_items += len(batch)
        self.largest_batch = max(self.largest_batch, len(batch))
        return batch, n


def _resolve(
    batch: list[_Waiting[Item, Result]],
    done: asyncio.Future[list[Result | Exception]],
) -> None:
    """Set the result of every item of a finished batch."""
    for waiting, result in zip(batch, done.result(), strict=True):
        if not waiting.future.done():  # a caller that was cancelled has a done future
            waiting.future.set_result(result)
