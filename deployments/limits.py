"""ASGI middleware around every request: body limits, API key, request id.

Each is a plain class, checked in its constructor, that steps aside for what it does not handle.
A refusal is raised where the body is read or the request begins; `api` turns it into a reply.
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

REQUEST_ID_HEADER = "x-request-id"
MAX_REQUEST_ID_CHARACTERS = 128
PUBLIC_PATHS = frozenset({"/healthz", "/readyz"})


class BodyLimit:
    """Counts bodies while they are read; a declared length is only a hint.

    A minimum mean rate is asked for, not a total time: a large upload over a slow line may take
    minutes, while a client that sends a byte a second, or nothing at all, would hold a slot for
    ever. All bodies together are bounded as well, so that many large uploads at once end in 429
    and not in a process without memory.

    Args:
        app: the application inside.
        max_bytes: largest body.
        max_total_bytes: of all requests that are in here at a time.
        min_bytes_per_s: slowest mean rate, after the grace period.
        grace_s: seconds before the rate counts.
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
            if complete:
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
            self._total_bytes -= n_bytes

    async def _receive_in_time(self, receive: Receive, n_bytes: int, start_s: float) -> Message:
        """The next piece, which must come before the mean rate falls below the limit."""
        allowed_s = max(self._grace_s, n_bytes / self._min_bytes_per_s)
        remaining_s = start_s + allowed_s - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, remaining_s)):
                return await receive()
        except TimeoutError:
            raise UploadTooSlowError(
                f"after {allowed_s:.0f} s only {n_bytes:,} bytes of the body had come, limit is "
                f"{self._min_bytes_per_s:.0f} bytes/s"
            ) from None

    def _check_size(self, n_bytes: int) -> None:
        if n_bytes > self._max_bytes:
            raise UploadTooLargeError(
                f"the body is {n_bytes:,} bytes or more, limit is {self._max_bytes:,} bytes"
            )
        if self._total_bytes > self._max_total_bytes:
            raise OverloadedError("the service is busy: too many uploads at a time")


class ApiKey:
    """Asks for `Authorization: Bearer …` on everything but the probes.

    Args:
        app: the application inside.
        key: the secret; compared in constant time.
        refuse: turns the refusal into a reply.
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
        """Pass the request on if its key is right."""
        if scope["type"] != "http" or scope["path"] in PUBLIC_PATHS:
            return await self._app(scope, receive, send)
        given = Headers(scope=scope).get("authorization", "").encode("latin-1", "replace")
        if hmac.compare_digest(given, self._expected):
            return await self._app(scope, receive, send)
        error = UnauthorizedError("a valid API key is needed: Authorization: Bearer <key>")
        await self._refuse(error, scope)(scope, receive, send)


class RequestId:
    """Gives every request an id, the caller's own where it sent one.

    Args:
        app: the application inside.
        echo: whether to put it into the reply's headers; Serve does that itself.
    """

    def __init__(self, app: ASGIApp, *, echo: bool) -> None:
        self._app = app
        self._echo = echo

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Put the id into the scope's state, and into the reply's headers if asked to."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")[:MAX_REQUEST_ID_CHARACTERS]
        request_id = (
            given if given.isascii() and given.isprintable() and given else uuid.uuid4().hex
        )
        scope.setdefault("state", {})["request_id"] = request_id

        async def echo(message: Message) -> None:
            if self._echo and message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            await send(message)

        await self._app(scope, receive, echo)
