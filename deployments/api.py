"""The HTTP edge: Starlette only, no Ray.

`create_app` takes anything that classifies bytes, so the same application runs in a replica and
under a test client with a fake. Errors become replies in one place, from one table.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import math
from collections.abc import Mapping
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from acoustic.errors import (
    AcousticError,
    InvalidOptionError,
    InvalidRequestError,
    OverloadedError,
    ServiceError,
    SourceForbiddenError,
)
from acoustic.prediction import Prediction
from deployments.config import HttpConfig
from deployments.limits import ApiKey, BodyLimit, RequestId
from deployments.openapi import openapi_document
from deployments.options import JsonRequest, Options, parse_options, validate
from deployments.uploads import Upload, read_uploads

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
    "timeout": 504,
}
"""Every error's status; a test walks the tree of classes."""

MAX_JSON_MARKS = 64
"""Commas and brackets in a JSON body; base64 has none of them."""

CODE_BY_STATUS = {404: "not_found", 405: "method_not_allowed"}


class Service(Protocol):
    """What the edge needs from the graph behind it."""

    async def classify(self, data: bytes, options: Options) -> Prediction:
        """Classify one file; raises AcousticError."""

    async def ready(self) -> None:
        """Return when every stage answers; raises UnavailableError otherwise."""

    async def stats(self) -> dict[str, Any]:
        """Totals since the start."""

    def labels(self) -> list[dict[str, object]]:
        """The genres, with aliases and parents."""

    def config(self) -> dict[str, Any]:
        """The effective configuration, without secrets."""


def create_app(
    service: Service, http: HttpConfig, *, api_key: str = "", echo_request_id: bool = True
) -> Starlette:
    """The web application.

    Args:
        service: the graph, or a fake of it.
        http: limits of requests.
        api_key: secret that callers must send, "" for an open service.
        echo_request_id: False where the server around the app does it.
    """
    edge = _Edge(service, http)
    body_limit = Middleware(
        BodyLimit,
        max_bytes=http.max_body_bytes,
        max_total_bytes=http.max_total_body_bytes,
        min_bytes_per_s=http.min_bytes_per_s,
        grace_s=http.slow_body_grace_s,
    )
    guard = [Middleware(ApiKey, key=api_key, refuse=error_reply)] if api_key else []
    return Starlette(
        routes=[
            Route("/v1/classify", edge.classify, methods=["POST"]),
            Route("/v1/labels", edge.labels),
            Route("/v1/config", edge.config),
            Route("/v1/stats", edge.stats),
            Route("/healthz", edge.healthz),
            Route("/readyz", edge.readyz),
            Route("/openapi.json", edge.openapi),
        ],
        middleware=[Middleware(RequestId, echo=echo_request_id), *guard, body_limit],
        exception_handlers={
            AcousticError: _on_acoustic_error,
            MultiPartException: _on_multipart_error,
            ClientDisconnect: _on_disconnect,
            HTTPException: _on_http_error,
            Exception: _on_bug,
        },
    )


class _Edge:
    def __init__(self, service: Service, http: HttpConfig) -> None:
        self._service = service
        self._http = http
        self._openapi = openapi_document(STATUS_BY_CODE)

    async def classify(self, request: Request) -> Response:
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type == "multipart/form-data":
            return await self._classify_form(request)
        if content_type == "application/json":
            return await self._classify_json(request)
        options = parse_options(request.query_params)
        return prediction_reply(await self._service.classify(await request.body(), options))

    async def _classify_json(self, request: Request) -> Response:
        body = validate(JsonRequest, {**request.query_params, **_json_object(await request.body())})
        if body.uri is not None:
            raise SourceForbiddenError("no source of URIs is allowed: send the audio itself")
        if body.audio is None:
            raise InvalidRequestError('the JSON body has no "audio" (a file in base64)')
        options = Options(**body.model_dump(exclude={"audio", "uri"}))
        return prediction_reply(await self._service.classify(_decode_base64(body.audio), options))

    async def _classify_form(self, request: Request) -> Response:
        form = await read_uploads(request, self._http.max_files)
        options = parse_options({**request.query_params, **form.fields})
        if len(form.uploads) == 1:
            upload = form.uploads[0]
            named = options if options.file else options.model_copy(update={"file": upload.name})
            return prediction_reply(await self._service.classify(upload.data, named))
        outcomes = await asyncio.gather(*(self._try(upload, options) for upload in form.uploads))
        results = [
            {"file": upload.name, "error": error_body(outcome)}
            if isinstance(outcome, AcousticError)
            else outcome.to_dict()
            for upload, outcome in zip(form.uploads, outcomes, strict=True)
        ]
        first = outcomes[0]
        if isinstance(first, AcousticError) and all("error" in result for result in results):
            return error_reply(first, request.scope, results=results)
        return json_reply({"results": results})

    async def _try(self, upload: Upload, options: Options) -> Prediction | AcousticError:
        """One file of several: its prediction, or the error that takes its place."""
        try:
            return await self._service.classify(
                upload.data, options.model_copy(update={"file": upload.name})
            )
        except AcousticError as error:
            return error

    async def labels(self, request: Request) -> Response:
        return json_reply({"labels": self._service.labels()})

    async def config(self, request: Request) -> Response:
        return json_reply(self._service.config())

    async def stats(self, request: Request) -> Response:
        return json_reply(await self._service.stats())

    async def healthz(self, request: Request) -> Response:
        return json_reply({"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        await self._service.ready()
        return json_reply({"status": "ready"})

    async def openapi(self, request: Request) -> Response:
        return json_reply(self._openapi)


def json_reply(body: Mapping[str, Any], status: int = 200) -> Response:
    """A JSON response; NaN would be a bug and raises."""
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text, status, media_type="application/json")


def prediction_reply(prediction: Prediction) -> Response:
    """A prediction with its timings in the Server-Timing header as well."""
    reply = json_reply(prediction.to_dict())
    timings = (f"{name};dur={ms:.2f}" for name, ms in prediction.timings_ms.items())
    reply.headers["server-timing"] = ", ".join(timings)
    return reply


def error_body(error: AcousticError) -> dict[str, str]:
    """What a caller may know: the message of an error of ours that is not theirs stays inside."""
    public = STATUS_BY_CODE[error.code] != 500
    return {"code": error.code, "message": error.message if public else "internal error"}


def error_reply(error: AcousticError, scope: Scope, **extra: Any) -> Response:
    """The reply to any of our errors, with further fields if given."""
    status = STATUS_BY_CODE[error.code]
    body = {"error": error_body(error), "request_id": scope["state"]["request_id"], **extra}
    reply = json_reply(body, status)
    if isinstance(error, OverloadedError):
        reply.headers["retry-after"] = str(math.ceil(error.retry_after_s))
    if status == 401:
        reply.headers["www-authenticate"] = "Bearer"
    return reply


async def _on_acoustic_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AcousticError)
    if isinstance(error, ServiceError):
        logger.warning("request failed code=%s", error.code)
    return error_reply(error, request.scope)


async def _on_multipart_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, MultiPartException)
    return error_reply(InvalidRequestError(f"malformed form: {error.message}"), request.scope)


async def _on_disconnect(request: Request, error: Exception) -> Response:
    """Nobody is listening any more; the status is for the access log."""
    return error_reply(InvalidRequestError("the client went away"), request.scope)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 400:
        return error_reply(InvalidRequestError(error.detail), request.scope)
    code = CODE_BY_STATUS.get(error.status_code, "http_error")
    body = {
        "error": {"code": code, "message": error.detail},
        "request_id": request.state.request_id,
    }
    reply = json_reply(body, error.status_code)
    reply.headers.update(error.headers or {})
    return reply


async def _on_bug(request: Request, error: Exception) -> Response:
    body = {
        "error": {"code": "internal_error", "message": "internal error"},
        "request_id": request.state.request_id,
    }
    return json_reply(body, 500)


def _json_object(body: bytes) -> dict[str, Any]:
    """A flat object of few fields; anything else is refused before it is parsed or checked."""
    if max(body.count(b","), body.count(b"{"), body.count(b"[")) > MAX_JSON_MARKS:
        raise InvalidRequestError("the JSON body has more fields than any request needs")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError("the body is not valid JSON") from error
    if not isinstance(content, dict):
        raise InvalidRequestError("the body is no JSON object")
    unknown = sorted(content.keys() - JsonRequest.model_fields.keys())
    if unknown:
        raise InvalidOptionError(f"option {unknown[0][:64]!r}: there is no such option")
    return content


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError('"audio" is not valid base64') from error
