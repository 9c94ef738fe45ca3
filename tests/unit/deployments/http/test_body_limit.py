"""BodyLimit alone: size, sum and rate of request bodies, by a fake clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from acoustic.errors import OverloadedError, UploadTooLargeError, UploadTooSlowError
from deployments.http import middleware
from deployments.http.middleware import N_COPIES, BodyLimit

Headers = dict[str, bytes]


def scope_of(headers: Headers | None = None) -> Scope:
    pairs = [(name.encode(), value) for name, value in (headers or {}).items()]
    return {"type": "http", "method": "POST", "path": "/v1/classify", "headers": pairs}


class Clock:
    """Monotonic clock that only moves when a test moves it.

    Attributes:
        allowed_s: seconds that the message to come may take.
    """

    def __init__(self) -> None:
        self.now_s = 500.0
        self.allowed_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    timeout = asyncio.timeout

    def noted(seconds: float) -> Any:
        found.allowed_s = seconds
        return timeout(None)

    monkeypatch.setattr(middleware, "time", found)
    monkeypatch.setattr(asyncio, "timeout", noted)
    return found


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    """Application that reads its body to the end."""
    while (await receive()).get("more_body"):
        pass


def limited(app: Any = read_all, **changes: Any) -> BodyLimit:
    settings = {
        "max_bytes": 100, "max_total_bytes": 150 * N_COPIES, "min_bytes_per_s": 10.0,
        "grace_s": 2.0, "max_upload_s": 30.0, "large_bytes": 1000, "max_large": 1,
    }  # fmt: skip
    return BodyLimit(app, **{**settings, **changes})


def chunks(*sizes: int) -> Receive:
    """A body in chunks of these sizes."""
    left = [b"x" * size for size in sizes]

    async def receive() -> Message:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return receive


async def send_nothing(message: Message) -> None:
    raise AssertionError("BodyLimit does not reply by itself")


def upload(limit: BodyLimit, receive: Receive, headers: Headers | None = None) -> None:
    asyncio.run(limit(scope_of(headers), receive, send_nothing))


class TestBodyLimit:
    @pytest.mark.parametrize("sizes", [(100,), (50, 50), (0, 100, 0), (1,) * 100, (0,)])
    def test_a_body_of_the_limit_passes_in_any_chunks(self, sizes: tuple[int, ...]) -> None:
        limit = limited()
        upload(limit, chunks(*sizes))
        assert limit._total_bytes == 0

    @pytest.mark.parametrize("sizes", [(101,), (50, 51), (100, 1), (1,) * 101])
    @pytest.mark.parametrize("declared", [b"", b"3", b"100", b"many", b"-5"])
    def test_a_byte_more_is_rejected_whatever_is_declared(
        self, sizes: tuple[int, ...], declared: bytes
    ) -> None:
        limit = limited()
        with pytest.raises(UploadTooLargeError, match="101 bytes or more, limit is 100 bytes"):
            upload(limit, chunks(*sizes), {"content-length": declared})
        assert limit._total_bytes == 0, "what was counted is given back"

    def test_a_declared_length_is_rejected_before_any_byte_is_read(self) -> None:
        async def receive() -> Message:
            raise AssertionError("nothing may be read")

        with pytest.raises(UploadTooLargeError, match="1,000 bytes or more"):
            upload(limited(), receive, {"content-length": b"1000"})

    def test_an_application_that_reads_nothing_is_not_limited(self) -> None:
        """A probe with a large declared length is answered."""
        seen: list[Scope] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope)

        upload(limited(app), chunks(1), {"content-length": b"1000"})
        assert len(seen) == 1

    def test_bodies_count_together_until_the_reply(self) -> None:
        may_reply = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await read_all(scope, receive, send)
            await may_reply.wait()

        async def scenario() -> None:
            limit = limited(app)
            first = asyncio.create_task(limit(scope_of(), chunks(90), send_nothing))
            while not limit._total_bytes:
                await asyncio.sleep(0)
            with pytest.raises(OverloadedError, match="too many uploads"):
                await limit(scope_of(), chunks(40, 21), send_nothing)
            assert limit._total_bytes == 90, "the refused body is given back"
            may_reply.set()
            await limit(scope_of(), chunks(60), send_nothing)
            await first
            assert limit._total_bytes == 0

        asyncio.run(scenario())

    @pytest.mark.parametrize("fault", ["raises", "is cancelled"])
    def test_totals_are_given_back_when_the_application(self, fault: str) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            if fault == "raises":
                raise RuntimeError("bug")
            await asyncio.Event().wait()

        async def scenario() -> None:
            limit = limited(app)
            task = asyncio.create_task(limit(scope_of(), chunks(90), send_nothing))
            while not limit._total_bytes and not task.done():
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises((RuntimeError, asyncio.CancelledError)):
                await task
            assert limit._total_bytes == 0

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        ("chunks", "is_in_time"),
        [
            ([(0.0, 1), (1.9, 1)], True),
            ([(0.0, 1), (2.1, 1)], False),
            ([(0.0, 99), (2.1, 1)], False),  # much, and then silence
            ([(0.0, 10), (1.5, 10), (1.5, 10), (1.5, 10)], False),  # 6.7 bytes/s
            ([(0.0, 10), (1.0, 10), (1.0, 10), (1.0, 10), (1.0, 10)], True),
            ([(0.9, 10)] * 9, True),
            ([(1.9, 1), (1.9, 1)], False),
        ],
    )
    def test_the_rate_counts_over_the_last_seconds(
        self, clock: Clock, chunks: list[tuple[float, int]], is_in_time: bool
    ) -> None:
        """10 bytes/s, or silence for 2 s."""
        receive = self._late(clock, chunks)
        if is_in_time:
            upload(limited(), receive)
            return
        limit = limited()
        with pytest.raises(UploadTooSlowError, match="less than 10 bytes/s for 2 s"):
            upload(limit, receive)
        assert limit._total_bytes == 0

    def test_the_time_in_which_the_server_does_not_read_is_not_the_clients(
        self, clock: Clock
    ) -> None:
        async def busy(scope: Scope, receive: Receive, send: Send) -> None:
            while (await receive()).get("more_body"):
                clock.now_s += 60.0  # other requests

        upload(limited(busy), self._late(clock, [(0.5, 10)] * 9))

    def test_no_body_may_take_for_ever(self, clock: Clock) -> None:
        chunks = [(0.5, 5)] * 19
        upload(limited(), self._late(clock, chunks))
        with pytest.raises(UploadTooSlowError, match="or took 5 s"):
            upload(limited(max_upload_s=5.0), self._late(clock, chunks))

    def _late(self, clock: Clock, chunks: list[tuple[float, int]]) -> Receive:
        """Chunks that arrive so many seconds after they are waited for."""
        left = list(chunks)

        async def receive() -> Message:
            wait_s, n_bytes = left.pop(0)
            limit_s = clock.allowed_s
            clock.now_s += min(wait_s, limit_s)
            if wait_s >= limit_s:
                raise TimeoutError
            return {"type": "http.request", "body": b"x" * n_bytes, "more_body": bool(left)}

        return receive

    def test_large_bodies_have_places_of_their_own(self) -> None:
        may_reply = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await read_all(scope, receive, send)
            await may_reply.wait()

        async def nothing() -> Message:
            raise AssertionError("refused by its declared length")

        async def scenario() -> None:
            limit = limited(app, large_bytes=50, max_large=1)
            first = asyncio.create_task(limit(scope_of(), chunks(30, 30), send_nothing))
            while limit._total_bytes < 60:
                await asyncio.sleep(0)
            declared = scope_of({"content-length": b"80"})
            with pytest.raises(OverloadedError, match="takes 1 uploads of 50 bytes or more"):
                await limit(declared, nothing, send_nothing)
            with pytest.raises(OverloadedError, match="takes 1 uploads"):
                await limit(scope_of(), chunks(30, 30), send_nothing)
            small = asyncio.create_task(limit(scope_of(), chunks(49), send_nothing))
            may_reply.set()
            await small
            await first
            await limit(scope_of(), chunks(60), send_nothing)
            assert (limit._total_bytes, limit._n_large) == (0, 0)

        asyncio.run(scenario())

    def test_after_the_body_a_disconnect_may_come_late(self, clock: Clock) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await read_all(scope, receive, send)
            clock.now_s += 3600
            assert (await receive())["type"] == "http.disconnect"

        body = chunks(10)
        replies: list[Callable[[], Any]] = [body, self._disconnect]

        async def receive() -> Message:
            message: Message = await replies.pop(0)()
            return message

        upload(limited(app), receive)

    async def _disconnect(self) -> Message:
        await asyncio.sleep(0)
        return {"type": "http.disconnect"}
