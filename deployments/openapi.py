"""The OpenAPI document, generated from the models that requests are checked against.

The reply's models mirror `Prediction.to_dict()`; a test validates real predictions with them, so
that the document cannot drift from the service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.json_schema import models_json_schema

from acoustic import __version__
from deployments.options import JsonRequest, Options


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid")


class GenreScoreBody(_Reply):
    """A genre and its calibrated probability."""

    genre: str
    probability: float


class UncertaintyBody(_Reply):
    """How unsure, each in [0, 1]."""

    entropy: float
    margin: float
    variation_ratio: float
    segment_disagreement: float
    distance: float | None


class PredictionSetBody(_Reply):
    """Genres that hold the true one with the stated probability."""

    coverage: float
    genres: list[str]


class FamilyBody(_Reply):
    """The answer one level up, where the family is sure and the genre is not."""

    name: str
    probability: float
    genres: list[str]


class ReasonBody(_Reply):
    """Why a person should look."""

    code: str
    value: float
    threshold: float
    message: str


class RuleBody(_Reply):
    """A music-knowledge rule that changed the probabilities."""

    name: str
    genres: list[str]
    log_odds: float
    before: float
    after: float


class QualityBody(_Reply):
    """Numbers about the sound that was heard."""

    rms_db: float
    silence_ratio: float
    clipping_ratio: float
    bandwidth_hz: float
    snr_estimate_db: float


class DescriptorsBody(_Reply):
    """Numbers about the music that was heard."""

    tempo_bpm: float
    tempo_confidence: float
    beat_strength: float
    low_frequency_ratio: float
    vocal_proxy: float


class ModelBody(_Reply):
    """Which model answered."""

    name: str
    version: str
    digest: str
    device: str
    precision: str
    temperature: float


class WindowBody(_Reply):
    """One window's own best genre."""

    start_s: float
    end_s: float
    genre: str
    probability: float


class PredictionBody(_Reply):
    """The answer for one file."""

    file: str
    duration_s: float | None
    format: str
    segments: list[tuple[float, float]]
    top_genre: str
    confidence: float
    predictions: list[GenreScoreBody]
    prediction_set: PredictionSetBody | None
    family: FamilyBody | None
    uncertainty: UncertaintyBody
    needs_review: bool
    reasons: list[ReasonBody]
    rules_applied: list[RuleBody]
    quality: QualityBody
    descriptors: DescriptorsBody
    model: ModelBody
    config_digest: str
    content_sha256: str
    cached: bool
    timings_ms: dict[str, float]
    timeline: list[WindowBody] | None = None


class ErrorFields(_Reply):
    """A stable code and a sentence."""

    code: str
    message: str


class ErrorBody(_Reply):
    """Any failure."""

    error: ErrorFields
    request_id: str


class FileErrorBody(_Reply):
    """The failure of one file of several."""

    file: str
    error: ErrorFields


class BatchBody(_Reply):
    """The answers for several files of one form, in its order."""

    results: list[PredictionBody | FileErrorBody]


def openapi_document(status_by_code: Mapping[str, int]) -> dict[str, Any]:
    """The document served at /openapi.json.

    Args:
        status_by_code: error code → HTTP status.
    """
    models = (JsonRequest, PredictionBody, BatchBody, ErrorBody)
    _, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AcousticSense",
            "version": __version__,
            "description": "Music-genre classification with calibrated uncertainty.",
        },
        "paths": {
            "/v1/classify": {"post": _classify_operation(status_by_code)},
            "/v1/labels": _get("The genres, with aliases and parents."),
            "/v1/config": _get("The effective configuration, without secrets."),
            "/v1/stats": _get("Totals, latencies and batches since the start."),
            "/healthz": _get("Whether the process is alive."),
            "/readyz": _get("Whether every stage answers; 503 if not."),
            "/openapi.json": _get("This document."),
        },
        "components": {"schemas": schemas["$defs"]},
    }


def _classify_operation(status_by_code: Mapping[str, int]) -> dict[str, Any]:
    codes_by_status: dict[int, list[str]] = {}
    for code, status in status_by_code.items():
        codes_by_status.setdefault(status, []).append(code)
    binary = {"schema": {"type": "string", "format": "binary"}}
    form = {
        "type": "object",
        "properties": {"file": {"type": "array", "items": binary["schema"]}},
        "required": ["file"],
    }
    answer = {"anyOf": [_ref("PredictionBody"), _ref("BatchBody")]}
    return {
        "summary": "Classify audio",
        "description": "A raw file, a form with one or more files, or base64 in JSON.",
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in Options.model_json_schema()["properties"].items()
        ],
        "requestBody": {
            "required": True,
            "content": {
                "audio/*": binary,
                "application/octet-stream": binary,
                "multipart/form-data": {"schema": form},
                "application/json": {"schema": _ref("JsonRequest")},
            },
        },
        "responses": {
            "200": {
                "description": "The prediction, or one result per file of a form with several.",
                "content": {"application/json": {"schema": answer}},
            },
            **{
                str(status): {
                    "description": ", ".join(codes),
                    "content": {"application/json": {"schema": _ref("ErrorBody")}},
                }
                for status, codes in sorted(codes_by_status.items())
            },
        },
    }


def _get(summary: str) -> dict[str, Any]:
    content = {"application/json": {"schema": {"type": "object"}}}
    return {
        "get": {"summary": summary, "responses": {"200": {"description": "OK", "content": content}}}
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
