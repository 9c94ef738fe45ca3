"""ASGI middleware around every request: body limits, API keys, request id, headers.

Each is a plain class that passes on what it does not handle; its constructor checks its arguments.
A rejection is raised where the body is read or the request begins; `errors` turns it into a reply.
"""

from __future__ import annotations

import asyncio
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
from deployments.http.keys import Keys, caller
from deployments.http.page import is_public

REQUEST_ID_HEADER = "x-request-id"
MAX_REQUEST_ID_CHARACTERS = 128
PUBLIC_PATHS = frozenset({"/healthz", "/readyz"})

LARGE_RETRY_S = 2.0
"""Seconds after which a large body that found no place may be sent again."""


N_COPIES = 2.5
"""Copies of a body that an ingress holds at its worst: chunks, the joined body, the message."""


class BodyLimit:
    """Limits the size and the rate of request bodies while they are read.

    - Size: a declared length only allows an earlier rejection.
    - Rate: over the last seconds of waiting, not over the whole upload: a client that sends much
      and falls silent is ended as soon as one that never sends. Only time in which the server
      waits for the client counts; a server that is busy does not blame its clients.
    - Sum: the copies of all bodies have a limit, and large bodies a few places of their own, so
      that many of them at once end in 429 and neither exhaust the memory nor starve small ones.

    Args:
        app: wrapped ASGI application.
        max_bytes: largest body, in bytes.
        max_total_bytes: largest sum of the copies of all concurrent bodies, in bytes.
        min_bytes_per_s: slowest rate over the last `grace_s` seconds, in bytes per second.
        grace_s: seconds for which a client may send nothing.
        max_upload_s: longest time that the server waits for one body, in seconds.
        large_bytes: length from which a body is a large one, in bytes.
        max_large: most large bodies at a time.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_bytes: int,
        max_total_bytes: int,
        min_bytes_per_s: float,
        grace_s: float,
        max_upload_s: float = 900.0,
        large_bytes: int = 8 << 20,
        max_large: int = 8,
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_total_bytes = max_total_bytes
        self._min_bytes_per_s = min_bytes_per_s
        self._grace_s = grace_s
        self._max_upload_s = max_upload_s
        self._large_bytes, self._max_large = large_bytes, max_large
        self._total_bytes = 0
        self._n_large = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counting `receive`."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        declared = Headers(scope=scope).get("content-length", "")
        upload = _Upload(int(declared) if declared.isdigit() else 0, self._grace_s)

        async def limited() -> Message:
            if upload.is_complete:  # later messages only report a disconnect: no deadline applies
                return await receive()
            self._check_size(upload.n_declared)
            self._take_place(upload, upload.n_declared)
            message = await self._receive_in_time(receive, upload)
            n_new = len(message.get("body", b""))
            upload.add(n_new, self._min_bytes_per_s, self._grace_s)
            self._total_bytes += n_new
            self._check_size(upload.n_bytes)
            self._take_place(upload, upload.n_bytes)
            upload.is_complete = not message.get("more_body", False)
            return message

        try:
            await self._app(scope, limited, send)
        finally:
            # only now: the body is in memory until the reply is sent
            self._total_bytes -= upload.n_bytes
            self._n_large -= upload.is_large

    async def _receive_in_time(self, receive: Receive, upload: _Upload) -> Message:
        """The next message, which must arrive before the rate falls below the limit."""
        begun_s = time.monotonic()
        allowed_s = min(upload.credit_s, self._max_upload_s - upload.waited_s)
        try:
            async with asyncio.timeout(max(0.0, allowed_s)):
                return await receive()
        except TimeoutError:
            raise UploadTooSlowError(
                f"{upload.n_bytes:,} bytes of the body had arrived when the client sent less than "
                f"{self._min_bytes_per_s:.0f} bytes/s for {self._grace_s:.0f} s, or took "
                f"{self._max_upload_s:.0f} s"
            ) from None
        finally:
            upload.wait(time.monotonic() - begun_s)

    def _take_place(self, upload: _Upload, n_bytes: int) -> None:
        """A place among the large bodies, once a body is one."""
        if upload.is_large or n_bytes < self._large_bytes:
            return
        if self._n_large >= self._max_large:
            raise OverloadedError(
                f"the service is busy: it takes {self._max_large} uploads of "
                f"{self._large_bytes:,} bytes or more at a time; try again later",
                retry_after_s=LARGE_RETRY_S,
            )
        upload.is_large = True
        self._n_large += 1

    def _check_size(self, n_bytes: int) -> None:
        if n_bytes > self._max_bytes:
            raise UploadTooLargeError(
                f"the body is {n_bytes:,} bytes or more, limit is {self._max_bytes:,} bytes"
            )
        if self._total_bytes * N_COPIES > self._max_total_bytes:
            raise OverloadedError("the service is busy: too many uploads; try again later")


class _Upload:
    """One body on its way.

    Args:
        n_declared: length that the client states, bytes; 0 where it states none.
        credit_s: seconds that the client may be silent.
    """

    def __init__(self, n_declared: int, credit_s: float) -> None:
        self.n_declared, self.credit_s = n_declared, credit_s
        self.n_bytes = 0
        self.waited_s = 0.0
        self.is_complete = self.is_large = False

    def add(self, n_bytes: int, bytes_per_s: float, grace_s: float) -> None:
        """Bytes that have arrived buy as much time as they may take, up to the grace."""
        self.n_bytes += n_bytes
        self.credit_s = min(grace_s, self.credit_s + n_bytes / bytes_per_s)

    def wait(self, seconds: float) -> None:
        """Time in which the server was waiting for the client."""
        self.credit_s -= seconds
        self.waited_s += seconds


class ApiKeys:
    """Requires `Authorization: Bearer <key>` on every path except the probes and the pages.

    Args:
        app: wrapped ASGI application.
        keys: the keys in force, with their limits.
        refuse: turns the error and the scope into a reply.
    """

    def __init__(
        self, app: ASGIApp, *, keys: Keys, refuse: Callable[[AcousticError, Scope], Response]
    ) -> None:
        self._app, self._keys, self._refuse = app, keys, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on if its key is valid and not used up, else reply 401 or 429."""
        is_open = scope["type"] != "http" or scope["path"] in PUBLIC_PATHS
        if is_open or is_public(scope["path"]):
            return await self._app(scope, receive, send)
        given = Headers(scope=scope).get("authorization", "").encode("latin-1", "replace")
        try:
            name = self._keys.name_of(given)
        except (UnauthorizedError, OverloadedError) as error:
            return await self._refuse(error, scope)(scope, receive, send)
        token = caller.set(name)
        try:
            await self._app(scope, receive, send)
        finally:
            caller.reset(token)


SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
}


class SecurityHeaders:
    """Adds headers that keep browsers from guessing, framing and telling.

    Args:
        app: wrapped ASGI application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add them to every reply."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, secured)


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
