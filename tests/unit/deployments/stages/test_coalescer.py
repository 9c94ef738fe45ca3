"""Batches under load, and items that make a batch fail. The fake's answer depends on its input."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

import pytest

from deployments.stages.coalescer import Coalescer, DroppedError
from deployments.telemetry.batch_facts import BatchFacts


class Squares:
    """Fake model: squares its items, fails on negative ones, and waits for its gate."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.gate.wait(10)
        self.batches.append(list(items))
        if any(item < 0 for item in items):
            raise RuntimeError("negative item")
        return [item * item for item in items]


def run(squares: Squares, groups: list[list[int]], max_size: int = 8) -> list[list[object]]:
    """Submit all groups while the model is busy with a first item; returns their results."""

    async def scenario() -> list[list[object]]:
        coalescer: Coalescer[int, int] = Coalescer(squares, lambda item: 1, max_size)
        squares.gate.clear()
        first = asyncio.create_task(coalescer.submit([100]))
        await asyncio.sleep(0)
        others = [asyncio.create_task(coalescer.submit(group)) for group in groups]
        while len(coalescer._pending) < sum(map(len, groups)):
            await asyncio.sleep(0)
        squares.gate.set()
        assert await first == [10_000]
        results = await asyncio.gather(*others)
        assert not coalescer._pending
        return [list(result) for result in results]

    return asyncio.run(scenario())


def test_everybody_gets_the_answer_to_their_own_item() -> None:
    results = run(Squares(), [[i] for i in range(50)])
    assert results == [[i * i] for i in range(50)]


def test_what_is_dropped_is_not_run_and_delays_nobody() -> None:
    squares = Squares()

    async def scenario() -> tuple[list[object], list[object]]:
        coalescer: Coalescer[int, int] = Coalescer(squares, lambda item: 1, 8)
        squares.gate.clear()
        running = asyncio.create_task(coalescer.submit([1000]))
        gone = asyncio.create_task(coalescer.submit([2000]))
        other = asyncio.create_task(coalescer.submit([3000]))
        while len(coalescer._pending) < 2:
            await asyncio.sleep(0)
        gone_item = coalescer._pending[0].item
        coalescer.drop(gone_item)
        coalescer.drop(gone_item)  # not there any more
        assert isinstance((await gone)[0], DroppedError)
        squares.gate.set()
        return list(await running), list(await other)

    assert asyncio.run(scenario()) == ([1_000_000], [9_000_000])
    assert squares.batches == [[1000], [3000]]


def test_what_waits_is_put_together_up_to_the_limit() -> None:
    squares = Squares()
    run(squares, [[i] for i in range(20)], max_size=8)
    assert [len(batch) for batch in squares.batches] == [1, 8, 8, 4]


def test_first_come_first_served() -> None:
    squares = Squares()
    run(squares, [[3], [1], [2]])
    assert squares.batches == [[100], [3, 1, 2]]


def test_the_limit_is_in_the_items_own_unit() -> None:
    seen: list[list[int]] = []

    def record(items: Sequence[int]) -> list[int]:
        seen.append(list(items))
        return list(items)

    async def scenario() -> None:
        coalescer: Coalescer[int, int] = Coalescer(record, lambda item: item, 10)
        await coalescer.submit([4, 4, 4, 10, 1])

    asyncio.run(scenario())
    assert seen == [[4, 4], [4], [10], [1]]


@pytest.mark.parametrize("position", [0, 3, 7])
def test_a_failing_item_fails_alone(position: int) -> None:
    items = list(range(1, 9))
    items[position] = -1
    results = run(Squares(), [[item] for item in items])
    for item, (result,) in zip(items, results, strict=True):
        if item < 0:
            assert isinstance(result, RuntimeError)
        else:
            assert result == item * item


def test_all_items_failing() -> None:
    results = run(Squares(), [[-1], [-2], [-3]])
    assert all(isinstance(result, RuntimeError) for (result,) in results)


def test_a_group_is_answered_in_its_order_across_batches() -> None:
    assert run(Squares(), [list(range(20))], max_size=6) == [[i * i for i in range(20)]]


def test_a_cancelled_caller_leaves_nobody_waiting() -> None:
    squares = Squares()

    async def scenario() -> list[object]:
        coalescer: Coalescer[int, int] = Coalescer(squares, lambda item: 1, 8)
        squares.gate.clear()
        first = asyncio.create_task(coalescer.submit([1]))
        await asyncio.sleep(0)
        others = [asyncio.create_task(coalescer.submit([i])) for i in (2, 3)]
        await asyncio.sleep(0)
        first.cancel()
        squares.gate.set()
        return [await other for other in others]

    assert asyncio.run(asyncio.wait_for(_scenario_guard(scenario), 20)) == [[4], [9]]


async def _scenario_guard(scenario: Callable[[], Awaitable[list[object]]]) -> list[object]:
    return await scenario()


def test_every_call_is_told_with_its_sizes_and_waits() -> None:
    output: list[BatchFacts] = []
    squares = Squares()

    async def scenario() -> int:
        coalescer: Coalescer[int, int] = Coalescer(squares, lambda item: item, 10, output.append)
        squares.gate.clear()
        first = asyncio.create_task(coalescer.submit([3]))
        while not coalescer._running_size:
            await asyncio.sleep(0)
        rest = asyncio.create_task(coalescer.submit([4, 5, 6]))
        while len(coalescer._pending) < 3:
            await asyncio.sleep(0)
        in_flight = coalescer.size_in_flight
        squares.gate.set()
        await asyncio.gather(first, rest)
        assert coalescer.size_in_flight == 0
        return in_flight

    assert asyncio.run(scenario()) == 3 + 4 + 5 + 6
    assert [(facts.n_items, facts.size) for facts in output] == [(1, 3), (2, 9), (1, 6)]
    assert [len(facts.waits_s) for facts in output] == [1, 2, 1]
    assert all(wait_s >= 0 for facts in output for wait_s in facts.waits_s)
    assert all(facts.run_s >= 0 for facts in output)
    assert output[2].waits_s[0] >= output[1].run_s
