"""HTTP API: routes, replies and error replies. Starlette only, no Ray.

`create_app` takes any implementation of `Service`, so the same application runs in a replica and
under a test client with a fake. Errors become replies in one place, from one table.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from acoustic.errors import (
    AcousticError,
    InvalidRequestError,
    ServiceError,
)
from acoustic.example import example_wav
from acoustic.geometry import MelConfig
from acoustic.prediction import Prediction
from acoustic.request import MAX_NAME_CHARACTERS, RequestOptions
from acoustic.types import TrackFeatures
from deployments.config import HttpConfig
from deployments.http.doors import (
    classify_all,
    hub_answer,
    hub_request,
    infer_reply,
    model_metadata,
    parse_infer,
    server_metadata,
)
from deployments.http.errors import (
    error_body,
    error_reply,
    json_reply,
    on_acoustic_error,
    on_bug,
    on_disconnect,
    on_http_error,
    on_multipart_error,
)
from deployments.http.habits import check_curl_data, check_habits, decode_base64
from deployments.http.keys import Keys
from deployments.http.middleware import (
    REQUEST_ID_HEADER,
    ApiKeys,
    BodyLimit,
    RequestId,
    SecurityHeaders,
)
from deployments.http.openapi import openapi_document
from deployments.http.options import parse_options
from deployments.http.page import page_routes
from deployments.http.spectrogram import spectrogram_reply
from deployments.http.uploads import Upload, read_uploads

logger = logging.getLogger(__name__)

AUDIO_FIELD, URI_FIELD = "audio", "uri"
EXAMPLE_S = 10.0
MAX_JSON_MARKS = 64
"""Largest number of commas, or of one kind of bracket, in a JSON body; base64 contains none."""


class Service(Protocol):
    """What the HTTP API needs from the service behind it."""

    async def classify(self, data: bytes, options: RequestOptions) -> Prediction:
        """Classify one file; raises AcousticError."""

    async def log_mel(
        self, data: bytes, options: RequestOptions
    ) -> tuple[TrackFeatures, MelConfig]:
        """What the model sees of one file, and the geometry of its windows."""

    async def classify_uri(self, uri: str, options: RequestOptions) -> Prediction:
        """Classify the file that a URI names; raises AcousticError."""

    def admit(self, options: RequestOptions) -> None:
        """Return if a request may send its body; raises OverloadedError, InvalidOptionError."""

    async def ready(self) -> None:
        """Return when every stage answers; raises UnavailableError otherwise."""

    async def stats(self) -> dict[str, Any]:
        """Totals of requests and answers since the start."""

    def labels(self, model: str = "") -> list[dict[str, object]]:
        """The genres of a model, with aliases and parents; raises InvalidOptionError."""

    def models(self) -> list[dict[str, Any]]:
        """The models that requests may name."""

    async def config(self) -> dict[str, Any]:
        """The effective configuration, without secrets."""


def create_app(
    service: Service, http: HttpConfig, *, keys: Keys | None = None, echo_request_id: bool = True
) -> Starlette:
    """The Starlette application with all routes, middleware and error handlers.

    Args:
        service: implementation of the API: the ingress, or a fake in tests.
        http: limits on requests.
        keys: keys that callers must send one of; None, or none in it, lets everybody in.
        echo_request_id: whether to add the request id to the reply's headers; False where the
            server around the app does it.
    """
    handlers = _Handlers(service, http)
    body_limit = Middleware(
        BodyLimit,
        max_bytes=http.max_body_bytes,
        max_total_bytes=http.max_total_body_bytes,
        min_bytes_per_s=http.min_bytes_per_s,
        grace_s=http.slow_body_grace_s,
        max_upload_s=http.max_upload_s,
        large_bytes=http.large_body_bytes,
        max_large=http.max_large_bodies,
    )
    key_check = (
        [Middleware(ApiKeys, keys=keys, refuse=error_reply)] if keys and not keys.is_open else []
    )
    cors = [_cors(http)] if http.allow_origins else []
    return Starlette(
        routes=[
            Route("/v1/classify", handlers.classify, methods=["POST"]),
            Route("/v1/audio-classification", handlers.hub, methods=["POST"]),
            Route("/v1/log-mel", handlers.log_mel, methods=["POST"]),
            Route("/v1/example.wav", handlers.example),
            Route("/v1/labels", handlers.labels),
            Route("/v1/models", handlers.models),
            Route("/v1/config", handlers.config),
            Route("/v1/stats", handlers.stats),
            Route("/healthz", handlers.healthz),
            Route("/readyz", handlers.readyz),
            Route("/openapi.json", handlers.openapi),
            *page_routes(),
            Route("/v2", handlers.server),
            Route("/v2/health/live", handlers.live),
            Route("/v2/health/ready", handlers.model_ready),
            Route("/v2/models/{model}", handlers.model),
            Route("/v2/models/{model}/ready", handlers.model_ready),
            Route("/v2/models/{model}/infer", handlers.infer, methods=["POST"]),
        ],
        middleware=[
            Middleware(RequestId, echo=echo_request_id),
            Middleware(SecurityHeaders),
            *cors,
            *key_check,
            body_limit,
        ],
        exception_handlers={
            AcousticError: on_acoustic_error,
            MultiPartException: on_multipart_error,
            ClientDisconnect: on_disconnect,
            HTTPException: on_http_error,
            Exception: on_bug,
        },
    )


def _cors(http: HttpConfig) -> Middleware:
    """Lets pages of the allowed origins call; before the key check, as preflights carry no key."""
    return Middleware(
        CORSMiddleware,
        allow_origins=list(http.allow_origins),
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type", REQUEST_ID_HEADER, "traceparent"],
        expose_headers=[REQUEST_ID_HEADER, "server-timing", "retry-after"],
    )


class _Handlers:
    def __init__(self, service: Service, http: HttpConfig) -> None:
        self._service = service
        self._http = http
        self._openapi = openapi_document()
        self._example = example_wav(EXAMPLE_S)

    async def classify(self, request: Request) -> Response:
        check_habits(request, self._http.max_query_bytes)
        content_type = _media_type(request)
        if content_type == "multipart/form-data":
            return await self._classify_form(request)
        if content_type == "application/json":
            return await self._classify_json(request)
        options = parse_options(request.query_params)
        self._service.admit(options)
        body = await request.body()
        check_curl_data(content_type, body)
        return prediction_reply(await self._service.classify(body, options))

    async def _classify_json(self, request: Request) -> Response:
        body = _json_object(await request.body())
        audio, uri = body.pop(AUDIO_FIELD, None), body.pop(URI_FIELD, None)
        options = parse_options({**request.query_params, **body})
        if isinstance(uri, str) and audio is None:
            self._service.admit(options)
            named = options if options.file else replace(options, file=uri[-MAX_NAME_CHARACTERS:])
            return prediction_reply(await self._service.classify_uri(uri, named))
        if not isinstance(audio, str) or uri is not None:
            raise InvalidRequestError(
                'the JSON body has neither "audio" (a file in base64) nor "uri", or both'
            )
        return prediction_reply(await self._service.classify(decode_base64(audio), options))

    async def _classify_form(self, request: Request) -> Response:
        form = await read_uploads(request, self._http.max_files)
        options = parse_options({**request.query_params, **form.fields})
        if len(form.uploads) == 1:
            upload = form.uploads[0]
            named = options if options.file else replace(options, file=upload.name)
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

    async def _try(self, upload: Upload, options: RequestOptions) -> Prediction | AcousticError:
        """Prediction of one of several files, or the error that takes its place."""
        try:
            return await self._service.classify(upload.data, replace(options, file=upload.name))
        except AcousticError as error:
            return error
        except Exception:  # an edge: one file never costs the others their answers
            logger.exception("a file of a form failed")
            return ServiceError("the service failed on this file")

    async def hub(self, request: Request) -> Response:
        """Hugging Face's task audio-classification."""
        check_habits(request, self._http.max_query_bytes)
        self._service.admit(RequestOptions())
        audio, options = hub_request(_media_type(request), await request.body())
        return json_reply(hub_answer(await self._service.classify(audio, options)))

    async def log_mel(self, request: Request) -> Response:
        """The windows that the model evaluates."""
        check_habits(request, self._http.max_query_bytes)
        options = parse_options(request.query_params)
        self._service.admit(options)
        features, mel = await self._service.log_mel(await request.body(), options)
        return json_reply(spectrogram_reply(features, mel))

    async def example(self, request: Request) -> Response:
        """Ten seconds of made-up music, to try the service with."""
        return Response(self._example, media_type="audio/wav")

    async def server(self, request: Request) -> Response:
        return json_reply(server_metadata())

    async def live(self, request: Request) -> Response:
        return json_reply({"live": True})

    async def model(self, request: Request) -> Response:
        found = self._model(request)
        return json_reply(model_metadata(found["name"], found["version"], found["n_genres"]))

    async def model_ready(self, request: Request) -> Response:
        found = self._model(request) if "model" in request.path_params else {}
        await self._service.ready()
        return json_reply({"ready": True, **({"name": found["name"]} if found else {})})

    async def infer(self, request: Request) -> Response:
        """The Open Inference Protocol's call."""
        found = self._model(request)
        name = "" if found["is_default"] else found["name"]
        self._service.admit(RequestOptions(model=name))
        asked = parse_infer(request, await request.body(), name, self._http.max_files)
        predictions = await classify_all(self._service.classify, asked.files, asked.options)
        return json_reply(infer_reply(asked, found["name"], found["version"], predictions))

    def _model(self, request: Request) -> dict[str, Any]:
        """The model that the path names."""
        name = request.path_params["model"]
        for each in self._service.models():
            if each["name"] == name:
                return each
        raise HTTPException(404, f"there is no model {name[:64]!r}")

    async def labels(self, request: Request) -> Response:
        model = request.query_params.get("model", "")
        return json_reply({"labels": self._service.labels(model)})

    async def models(self, request: Request) -> Response:
        return json_reply({"models": self._service.models()})

    async def config(self, request: Request) -> Response:
        return json_reply(await self._service.config())

    async def stats(self, request: Request) -> Response:
        return json_reply(await self._service.stats())

    async def healthz(self, request: Request) -> Response:
        return json_reply({"status": "alive"})

    async def readyz(self, request: Request) -> Response:
        await self._service.ready()
        return json_reply({"status": "ready"})

    async def openapi(self, request: Request) -> Response:
        return json_reply(self._openapi)


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def prediction_reply(prediction: Prediction) -> Response:
    """Reply with a prediction; its timings are also in the Server-Timing header."""
    reply = json_reply(prediction.to_dict())
    timings = (f"{name};dur={ms:.2f}" for name, ms in prediction.timings_ms.items())
    reply.headers["server-timing"] = ", ".join(timings)
    return reply


def _json_object(body: bytes) -> dict[str, Any]:
    """Parse a JSON body as an object of a few known fields; reject anything else."""
    # counted before parsing: a large body of many small values would block the event loop
    if max(body.count(b","), body.count(b"{"), body.count(b"[")) > MAX_JSON_MARKS:
        raise InvalidRequestError("the JSON body has more fields than any request needs")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError("the body is not valid JSON") from error
    if not isinstance(content, dict):
        raise InvalidRequestError("the body is not a JSON object")
    return content
