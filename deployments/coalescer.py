"""Full batches under load, and one bad item that fails alone. No Ray in here.

`@serve.batch` forms a batch before the previous one has finished, so under load the next ones
leave with whatever has come in by then: batches shrink just when they should grow. Here every
batch it hands over is only put on a pending list; whoever holds the lock takes as much from the
list as one model call may hold, first come first served.

A call that raises is split in two and tried again, down to single items, so that a poisoned item
costs its batch-mates some time but never their answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[Item, Result]):
    """An item on the pending list, since when, and who waits for its result."""

    item: Item
    since_s: float
    future: asyncio.Future[Result | Exception]


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchFacts:
    """What one call of the batch function was.

    Attributes:
        n_items: in it.
        size: sum of the items' sizes.
        waits_s: of each item, from its arrival to the start of the call.
        run_s: of the call.
    """

    n_items: int
    size: int
    waits_s: tuple[float, ...]
    run_s: float


class Coalescer(Generic[Item, Result]):
    """Runs a synchronous batch function for many concurrent callers.

    Args:
        run: items to as many results in the same order; called from one thread at a time.
        size: of one item, in the unit of `max_size`.
        max_size: most that one call may hold; a single item never exceeds it.
        observe: is told of every call, on the event loop.
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
        """Of all items that wait or are being worked on."""
        return self._running_size + sum(self._size(waiting.item) for waiting in self._pending)

    async def submit(self, items: Sequence[Item]) -> list[Result | Exception]:
        """Results in the order of the items; an item that fails alone gives its exception."""
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Result | Exception]] = [loop.create_future() for _ in items]
        now_s = time.perf_counter()
        pairs = zip(items, futures, strict=True)
        self._pending.extend(_Waiting(item, now_s, future) for item, future in pairs)
        while not all(future.done() for future in futures):
            async with self._lock:
                if self._pending and not all(future.done() for future in futures):
                    await self._run_next(loop)
            if not self._pending:  # the rest is under way for a holder that was cancelled
                await asyncio.wait(futures)
        return [future.result() for future in futures]

    async def _run_next(self, loop: asyncio.AbstractEventLoop) -> None:
        batch, size = self._take()
        self._running_size += size  # of a cancelled holder another batch may still run
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
        await asyncio.wait([running])  # a cancelled holder leaves the batch to its callback

    def _take(self) -> tuple[list[_Waiting[Item, Result]], int]:
        """From the head of the list as many as fit, and their size together."""
        batch = [self._pending.popleft()]
        n = self._size(batch[0].item)
        while self._pending and n + self._size(self._pending[0].item) <= self._max_size:
            batch.append(self._pending.popleft())
            n += self._size(batch[-1].item)
        self.n_batches += 1
        self.n_items += len(batch)
        self.largest_batch = max(self.largest_batch, len(batch))
        return batch, n


def run_bisecting(
    run: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]
) -> list[Result | Exception]:
    """Results in the order of the items; an item that fails alone gives its exception.

    Args:
        run: items to as many results in the same order.
        items: at least one.
    """
    try:
        results = list(run(items))
        if len(results) != len(items):
            raise ValueError(f"{len(results)} results for {len(items)} items")
        return [*results]
    except Exception as error:  # an edge: any failure of the model becomes the item's own
        if len(items) == 1:
            logger.exception("item failed alone")
            return [error]
    logger.warning("batch failed n_items=%d, splitting", len(items))
    middle = len(items) // 2
    return run_bisecting(run, items[:middle]) + run_bisecting(run, items[middle:])


def _resolve(
    batch: list[_Waiting[Item, Result]],
    done: asyncio.Future[list[Result | Exception]],
) -> None:
    """Hand every waiting caller its own result."""
    for waiting, result in zip(batch, done.result(), strict=True):
        if not waiting.future.done():
            waiting.future.set_result(result)
