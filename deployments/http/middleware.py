"""ASGI middleware around every request: body limits, API key, request id.

Each is a plain class that passes on what it does not handle; its constructor checks its arguments.
A rejection is raised where the body is read or the request begins; `errors` turns it into a reply.
"""

from __future__ import annotations

import asyncio
import hmac
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from acoustic.errors import (
    AcousticError,
    OverloadedError,
    UnauthorizedError,
    UploadTooLargeError,
    UploadTooSlowError,
)
from deployments.http.page import is_public

REQUEST_ID_HEADER = "x-request-id"
MAX_REQUEST_ID_CHARACTERS = 128
PUBLIC_PATHS = frozenset({"/healthz", "/readyz"})


class BodyLimit:
    """Limits the size and the rate of request bodies while they are read.

    A declared length only allows an earlier rejection. The limit is a minimum mean rate, not a
    total time: a large upload over a slow line may take minutes, while a client that sends a byte
    a second, or nothing at all, would hold a slot for ever. The sum of all bodies is limited as
    well, so that many large uploads at once end in 429 and do not exhaust the memory.

    Args:
        app: wrapped ASGI application.
        max_bytes: largest body, in bytes.
        max_total_bytes: largest sum of the bodies of all concurrent requests, in bytes.
        min_bytes_per_s: slowest mean rate after the grace period, in bytes per second.
        grace_s: seconds before the rate is checked.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_bytes: int,
        max_total_bytes: int,
        min_bytes_per_s: float,
        grace_s: float,
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_total_bytes = max_total_bytes
        self._min_bytes_per_s = min_bytes_per_s
        self._grace_s = grace_s
        self._total_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counting `receive`."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        declared = Headers(scope=scope).get("content-length", "")
        n_declared = int(declared) if declared.isdigit() else 0
        n_bytes, start_s, complete = 0, time.monotonic(), False

        async def limited() -> Message:
            nonlocal n_bytes, complete
            if complete:  # later messages only report a disconnect: no deadline applies
                return await receive()
            self._check_size(n_declared)
            message = await self._receive_in_time(receive, n_bytes, start_s)
            n_new = len(message.get("body", b""))
            n_bytes += n_new
            self._total_bytes += n_new
            self._check_size(n_bytes)
            complete = not message.get("more_body", False)
            return message

        try:
            await self._app(scope, limited, send)
        finally:
            self._total_bytes -= n_bytes  # only now: the body is in memory until the reply is sent

    async def _receive_in_time(self, receive: Receive, n_bytes: int, start_s: float) -> Message:
        """The next message, which must arrive before the mean rate falls below the limit."""
        # n bytes at the slowest rate take n / rate seconds: later than that, the mean is below it
        allowed_s = max(self._grace_s, n_bytes / self._min_bytes_per_s)
        remaining_s = start_s + allowed_s - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, remaining_s)):
                return await receive()
        except TimeoutError:
            raise UploadTooSlowError(
                f"after {allowed_s:.0f} s only {n_bytes:,} bytes of the body had arrived, minimum "
                f"rate is {self._min_bytes_per_s:.0f} bytes/s"
            ) from None

    def _check_size(self, n_bytes: int) -> None:
        if n_bytes > self._max_bytes:
            raise UploadTooLargeError(
                f"the body is {n_bytes:,} bytes or more, limit is {self._max_bytes:,} bytes"
            )
        if self._total_bytes > self._max_total_bytes:
            raise OverloadedError("the service is busy: too many uploads; try again later")


class ApiKey:
    """Requires `Authorization: Bearer <key>` on every path except the probes and the pages.

    Args:
        app: wrapped ASGI application.
        key: secret that callers must send; compared in constant time.
        refuse: turns the error and the scope into a reply.
    """

    def __init__(
        self, app: ASGIApp, *, key: str, refuse: Callable[[AcousticError, Scope], Response]
    ) -> None:
        if not key:
            raise ValueError("the API key is empty")
        self._app = app
        self._expected = f"Bearer {key}".encode()
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if its key is valid, else reply 401."""
        is_open = scope["type"] != "http" or scope["path"] in PUBLIC_PATHS
        if is_open or is_public(scope["path"]):
            return await self._app(scope, receive, send)
        # bytes, because compare_digest raises TypeError on a str that is not ASCII
        given = Headers(scope=scope).get("authorization", "").encode("latin-1", "replace")
        if hmac.compare_digest(given, self._expected):
            return await self._app(scope, receive, send)
        error = UnauthorizedError("API key missing or wrong: send Authorization: Bearer <key>")
        await self._refuse(error, scope)(scope, receive, send)


class RequestId:
    """Assigns every request an id: the caller's own if it sent a usable one, else a random one.

    Args:
        app: wrapped ASGI application.
        echo: whether to add the id to the reply's headers; False where Serve does that itself.
    """

    def __init__(self, app: ASGIApp, *, echo: bool) -> None:
        self._app = app
        self._echo = echo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Store the id in the scope's state, and in the reply's headers if `echo` is set."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")[:MAX_REQUEST_ID_CHARACTERS]
        request_id = (  # printable ASCII only: the id goes into log lines and a header
            given if given.isascii() and given.isprintable() and given else uuid.uuid4().hex
        )
        scope.setdefault("state", {})["request_id"] = request_id

        async def echo(message: Message) -> None:
            if self._echo and message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        await self._app(scope, receive, echo)
