"""The HTTP application over the pipeline in this process, and checks of its replies."""

from __future__ import annotations

from typing import Any

import httpx

from acoustic.errors import OverloadedError
from acoustic.geometry import MelConfig
from acoustic.pipeline import Pipeline
from acoustic.prediction import Prediction
from acoustic.request import RequestOptions
from acoustic.types import TrackFeatures
from deployments.sources.config import SourcesConfig
from deployments.sources.sources import Sources
from tests.support.schema import check_schema
from tests.support.sounds import encode, noise, sweep

JSON = {"content-type": "application/json"}

FORM = {"content-type": "multipart/form-data"}

FORM_X = {"content-type": "multipart/form-data; boundary=x"}

MAX_BODY_BYTES = 2_000_000

WAV = encode(sweep(20.0), 22_050)

OTHER_WAV = encode(noise(20.0), 22_050)


class InProcess:
    """Service that calls the real pipeline in process, or raises a given error."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.error: Exception | None = None
        self.sources = Sources(SourcesConfig(), MAX_BODY_BYTES)

    async def classify(self, data: bytes, options: RequestOptions) -> Prediction:
        if self.error:
            raise self.error
        return self.pipeline.classify(data, options)

    async def log_mel(
        self, data: bytes, options: RequestOptions
    ) -> tuple[TrackFeatures, MelConfig]:
        if self.error:
            raise self.error
        preprocessor = self.pipeline.preprocessor
        return preprocessor.process(data, options.effort), preprocessor.config.mel

    async def classify_uri(self, uri: str, options: RequestOptions) -> Prediction:
        async with self.sources.opened(uri) as file:
            data = await file.whole()
        return await self.classify(data, options)

    def admit(self, options: RequestOptions) -> None:
        if isinstance(self.error, OverloadedError):
            raise self.error

    async def ready(self) -> None:
        if self.error:
            raise self.error

    async def stats(self) -> dict[str, Any]:
        return {"requests": {}}

    def models(self) -> list[dict[str, Any]]:
        manifest = self.pipeline.classifier.manifest
        return [
            {
                "name": manifest.name,
                "is_default": True,
                "version": manifest.version,
                "n_genres": len(manifest.labels),
            }
        ]

    def labels(self, model: str = "") -> list[dict[str, object]]:
        return [label.to_dict() for label in self.pipeline.classifier.manifest.labels.labels]

    async def config(self) -> dict[str, Any]:
        return {"checkpoint": "tiny"}


def without_timings(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != "timings_ms"}


def check_error(response: httpx.Response, status: int, code: str) -> str:
    assert response.status_code == status, response.text
    body = response.json()
    check_schema({key: body[key] for key in ("error", "request_id")}, "Error")
    assert body["error"]["code"] == code
    assert body["request_id"] == response.headers["x-request-id"]
    return str(body["error"]["message"])
