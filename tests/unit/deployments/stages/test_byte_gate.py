"""Bytes held at a time are bounded, tasks take their turns, and nothing is lost by cancelling."""

from __future__ import annotations

import asyncio
import contextlib

from hypothesis import given
from hypothesis import strategies as st

from deployments.stages.byte_gate import ByteGate
from tests.support.properties import quick

LIMIT = 100


@quick
@given(sizes=st.lists(st.integers(1, 150), max_size=20), cancelled=st.sets(st.integers(0, 19)))
def test_the_bound_holds_and_every_task_gets_its_turn(
    sizes: list[int], cancelled: set[int]
) -> None:
    gate = ByteGate(LIMIT)
    held: list[int] = []
    begun: list[int] = []

    async def task(i: int) -> None:
        async with gate.holding(sizes[i]):
            begun.append(i)
            held.append(sizes[i])
            assert sum(held) <= LIMIT or len(held) == 1
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            held.remove(sizes[i])

    async def scenario() -> None:
        tasks = [asyncio.create_task(task(i)) for i in range(len(sizes))]
        await asyncio.sleep(0)
        for i in cancelled & set(range(len(sizes))):
            if i not in begun:
                tasks[i].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(scenario())
    assert gate.n_bytes == 0
    assert begun == sorted(begun), "first come, first served"
    assert set(begun) | cancelled >= set(range(len(sizes)))


def test_a_task_that_is_cancelled_as_its_turn_comes_gives_the_bytes_back() -> None:
    async def scenario() -> int:
        gate = ByteGate(LIMIT)

        async def hold() -> None:
            async with gate.holding(80):
                await asyncio.sleep(0)

        async with gate.holding(80):
            waiting = asyncio.create_task(hold())
            await asyncio.sleep(0)
        waiting.cancel()  # its turn has come, and it has not run yet
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        return gate.n_bytes

    assert asyncio.run(scenario()) == 0
