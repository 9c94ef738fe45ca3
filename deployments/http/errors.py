"""Errors as HTTP replies: one table of status codes, one form of body.

{"error": {"code": "audio_too_short", "message": "…"}, "request_id": "…"}
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from acoustic.errors import AcousticError, InvalidRequestError, OverloadedError, ServiceError
from deployments.http.keys import caller

logger = logging.getLogger(__name__)

STATUS_BY_CODE = {
    "invalid_request": 400,
    "unauthorized": 401,
    "source_forbidden": 403,
    "source_not_found": 404,
    "upload_too_slow": 408,
    "audio_too_long": 413,
    "upload_too_large": 413,
    "unsupported_audio": 415,
    "audio_decode_failed": 422,
    "audio_too_short": 422,
    "silent_audio": 422,
    "file_unreadable": 422,
    "invalid_option": 422,
    "invalid_input": 422,
    "source_corrupt": 422,
    "overloaded": 429,
    "acoustic_error": 500,
    "service_error": 500,
    "checkpoint_invalid": 500,
    "config_invalid": 500,
    "classification_failed": 500,
    "source_unavailable": 502,
    "unavailable": 503,
    "model_mismatch": 503,
    "timeout": 504,
}
"""HTTP status of every error code; a test checks that no error class is missing."""

REFUSALS_S = 1.0

CODE_BY_STATUS = {404: "not_found", 405: "method_not_allowed"}


def json_reply(body: Mapping[str, Any] | list[dict[str, object]], status: int = 200) -> Response:
    """A JSON response; raises ValueError on NaN, which JSON does not have."""
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text, status, media_type="application/json")


def error_body(error: AcousticError) -> dict[str, str]:
    """Code and message of an error for the caller; the message of a status 500 is withheld."""
    public = STATUS_BY_CODE[error.code] != 500
    return {"code": error.code, "message": error.message if public else "internal error"}


def error_reply(error: AcousticError, scope: Scope, **extra: Any) -> Response:
    """Reply for an AcousticError, with further fields if given."""
    status = STATUS_BY_CODE[error.code]
    body = {"error": error_body(error), "request_id": scope["state"]["request_id"], **extra}
    reply = json_reply(body, status)
    if isinstance(error, OverloadedError):
        reply.headers["retry-after"] = str(math.ceil(error.retry_after_s))
    if status == 401:
        reply.headers["www-authenticate"] = "Bearer"
    return reply


class Refusals:
    """Counts refusals between log lines, of which there is at most one in REFUSALS_S.

    A line for each would take time that an overloaded service does not have, and bury everything
    else; the access log and the metrics have every one.

    Args:
        clock: seconds, rising.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_s = -math.inf
        self._n = 0

    def add(self) -> int:
        """Count one. Returns how many there were since the last line; 0 if none is due."""
        self._n += 1
        now_s = self._clock()
        if now_s < self._next_s:
            return 0
        n, self._n = self._n, 0
        self._next_s = now_s + REFUSALS_S
        return n


_refusals = Refusals()


async def on_acoustic_error(request: Request, error: Exception) -> Response:
    """Reply for an error raised on purpose."""
    assert isinstance(error, AcousticError)
    if isinstance(error, OverloadedError):
        if n := _refusals.add():
            logger.warning("requests refused n=%d code=%s", n, error.code)
    elif isinstance(error, ServiceError):
        logger.warning("request failed code=%s key=%s", error.code, caller.get())
    return error_reply(error, request.scope)


async def on_multipart_error(request: Request, error: Exception) -> Response:
    """Reply for a form that cannot be parsed."""
    assert isinstance(error, MultiPartException)
    return error_reply(InvalidRequestError(f"malformed form: {error.message}"), request.scope)


async def on_disconnect(request: Request, error: Exception) -> Response:
    """Client disconnected; the status only reaches the access log."""
    return error_reply(InvalidRequestError("the client disconnected"), request.scope)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Reply for Starlette's own errors: unknown path, wrong method, bad form."""
    assert isinstance(error, HTTPException)
    if error.status_code == 400:
        return error_reply(InvalidRequestError(error.detail), request.scope)
    code = CODE_BY_STATUS.get(error.status_code, "http_error")
    message = error.detail
    if request.method == "OPTIONS" and "origin" in request.headers:
        message = (
            "pages of other origins may not call this service: the operator can add them to "
            "http.allow_origins"
        )
    body = {
        "error": {"code": code, "message": message},
        "request_id": request.state.request_id,
    }
    reply = json_reply(body, error.status_code)
    reply.headers.update(error.headers or {})
    return reply


async def on_bug(request: Request, error: Exception) -> Response:
    """Reply for anything unexpected; Starlette logs the traceback."""
    body = {
        "error": {"code": "internal_error", "message": "internal error"},
        "request_id": request.state.request_id,
    }
    return json_reply(body, 500)
