"""ASGI middleware around every request: body limits, API key, request id.

Each is a plain class, checked in its constructor, that steps aside for what it does not handle.
A refusal is raised where the body is read or the request begins; `api` turns it into a reply.
"""

from __future__ import annotations

import hmac
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from acoustic.errors import (
    AcousticError,
    UnauthorizedError,
    UploadTooLargeError,
    UploadTooSlowError,
)

REQUEST_ID_HEADER = "x-request-id"
MAX_REQUEST_ID_CHARACTERS = 128
PUBLIC_PATHS = frozenset({"/healthz", "/readyz"})


class BodyLimit:
    """Counts the body while it is read; a declared length is only a hint.

    A minimum mean rate is asked for, not a total time: a large upload over a slow line may take
    minutes, while a client that sends a byte a second would hold a slot for ever.

    Args:
        app: the application inside.
        max_bytes: largest body.
        min_bytes_per_s: slowest mean rate, after the grace period.
        grace_s: seconds before the rate counts.
    """

    def __init__(
        self, app: ASGIApp, *, max_bytes: int, min_bytes_per_s: float, grace_s: float
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._min_bytes_per_s = min_bytes_per_s
        self._grace_s = grace_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counting `receive`."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        declared = Headers(scope=scope).get("content-length", "")
        too_large = declared.isdigit() and int(declared) > self._max_bytes
        n_bytes, start_s = 0, time.monotonic()

        async def limited() -> Message:
            nonlocal n_bytes
            if too_large:
                raise self._too_large(int(declared))
            message = await receive()
            if message["type"] == "http.request":
                n_bytes += len(message.get("body", b""))
                if n_bytes > self._max_bytes:
                    raise self._too_large(n_bytes)
                if message.get("more_body", False):
                    self._check_rate(n_bytes, time.monotonic() - start_s)
            return message

        await self._app(scope, limited, send)

    def _too_large(self, n_bytes: int) -> UploadTooLargeError:
        return UploadTooLargeError(
            f"the body is {n_bytes:,} bytes or more, limit is {self._max_bytes:,} bytes"
        )

    def _check_rate(self, n_bytes: int, elapsed_s: float) -> None:
        if elapsed_s > self._grace_s and n_bytes < elapsed_s * self._min_bytes_per_s:
            raise UploadTooSlowError(
                f"the body came at {n_bytes / elapsed_s:.0f} bytes/s, limit is "
                f"{self._min_bytes_per_s:.0f} bytes/s"
            )


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
