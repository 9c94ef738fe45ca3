"""OpenAPI document, generated from the dataclasses of requests and answers.

Types come from the hints, descriptions from the Attributes blocks of the docstrings, so the
document cannot differ from the service.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter

from acoustic import __version__
from acoustic.prediction import Prediction
from acoustic.request import RequestOptions
from acoustic.schema import attribute_descriptions, schema_fields
from deployments.http.errors import STATUS_BY_CODE
from deployments.strict import strict_adapter

Schema = dict[str, Any]
REF_TEMPLATE = "#/components/schemas/{model}"

ERROR: Schema = {
    "type": "object",
    "description": "A stable code and a sentence.",
    "required": ["code", "message"],
    "additionalProperties": False,
    "properties": {
        "code": {"type": "string", "description": "Stable snake_case name; see docs/errors.md."},
        "message": {"type": "string", "description": "What is wrong, with value and limit."},
    },
}


def openapi_document() -> Schema:
    """The document served at /openapi.json."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "AcousticSense",
            "version": __version__,
            "description": "Music-genre classification with calibrated uncertainty.",
        },
        "paths": {
            "/v1/classify": {"post": _classify_operation()},
            "/v1/audio-classification": {"post": _hub_operation()},
            "/v1/example.wav": _get("example", "Ten seconds of a made-up chord.", "audio/wav"),
            "/v1/labels": _with_model(
                _get("labels", "The genres of a model, with aliases and parents.")
            ),
            "/v1/models": _get("models", "The models that requests may name."),
            "/v1/config": _get("config", "The effective configuration, without secrets."),
            "/v1/stats": _get("stats", "Totals, latencies, batches and resources since the start."),
            "/healthz": _get("healthz", "Whether the process is alive."),
            "/readyz": _get("readyz", "Whether every stage answers; 503 if not."),
            "/openapi.json": _get("openapi", "This document."),
            "/v2": _get("v2_server", "Open Inference Protocol: the server."),
            "/v2/health/live": _get("v2_live", "Open Inference Protocol: whether it is alive."),
            "/v2/health/ready": _get("v2_ready", "Open Inference Protocol: whether it is ready."),
            "/v2/models/{model}": _of_model(_get("v2_model", "Open Inference Protocol: a model.")),
            "/v2/models/{model}/ready": _of_model(
                _get("v2_model_ready", "Open Inference Protocol: whether a model is ready.")
            ),
            "/v2/models/{model}/infer": _of_model({"post": _infer_operation()}),
        },
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"apiKey": []}],
    }


def answer_schemas() -> dict[str, Schema]:
    """Name → JSON schema of `Prediction` and of every dataclass in it."""
    strict_adapter(Prediction)  # marks the classes as closed: no further keys
    schema = TypeAdapter(Prediction).json_schema(ref_template=REF_TEMPLATE)
    found: dict[str, Schema] = {**schema.pop("$defs"), Prediction.__name__: schema}
    for cls in _dataclasses_in(Prediction):
        _describe(found[cls.__name__], cls)
    return found


def _schemas() -> dict[str, Schema]:
    file = {"type": "string", "description": "Name of the file in the form."}
    results = {"anyOf": [_ref(Prediction.__name__), _ref("FileError")]}
    return {
        **answer_schemas(),
        "Error": _object("Any failure.", error=ERROR, request_id={"type": "string"}),
        "FileError": _object("The failure of one file of several.", file=file, error=ERROR),
        "Results": _object(
            "The answers for several files of one form, in its order.",
            results={"type": "array", "items": results},
        ),
        "JsonRequest": {
            **_object("Options beside the audio.", audio=_base64()),
            "properties": {"audio": _base64(), **_option_schemas()},
        },
    }


def _option_schemas() -> dict[str, Schema]:
    strict_adapter(RequestOptions)
    properties: dict[str, Schema] = TypeAdapter(RequestOptions).json_schema()["properties"]
    described = attribute_descriptions(RequestOptions)
    return {name: {**schema, "description": described[name]} for name, schema in properties.items()}


def _classify_operation() -> Schema:
    binary = {"schema": {"type": "string", "format": "binary"}}
    form = {
        "type": "object",
        "properties": {"file": {"type": "array", "items": binary["schema"]}},
        "required": ["file"],
    }
    return {
        "operationId": "classify",
        "tags": ["classify"],
        "summary": "Classify audio",
        "description": "A raw file, a form with one or more files, or base64 in JSON.",
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": schema}
            for name, schema in _option_schemas().items()
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
                "content": _json({"anyOf": [_ref(Prediction.__name__), _ref("Results")]}),
            },
            **_error_responses(),
        },
    }


def _hub_operation() -> Schema:
    score = _object("A genre.", label={"type": "string"}, score={"type": "number"})
    parameters = {"type": "object", "description": "Options of /v1/classify, such as top_k."}
    body = {
        **_object("The form with parameters.", inputs=_base64()),
        "properties": {"inputs": _base64(), "parameters": parameters},
    }
    return {
        "operationId": "audio_classification",
        "tags": ["other protocols"],
        "summary": "Classify audio, as the Hugging Face inference API does",
        "description": "A raw file, or base64 in JSON. Scores are calibrated probabilities.",
        "requestBody": {
            "required": True,
            "content": {
                "audio/*": {"schema": {"type": "string", "format": "binary"}},
                **_json(body),
            },
        },
        "responses": {
            "200": {
                "description": "The genres, most probable first.",
                "content": _json({"type": "array", "items": score}),
            },
            **_error_responses(),
        },
    }


def _infer_operation() -> Schema:
    tensor = {"type": "object", "required": ["name", "datatype", "shape"]}
    tensors = {"type": "array", "items": tensor}
    return {
        "operationId": "v2_infer",
        "tags": ["other protocols"],
        "summary": "Classify files, by the Open Inference Protocol",
        "description": (
            "One input tensor `audio` of BYTES: files in base64, or binary behind the JSON. "
            "Output tensors: genres, probabilities, answer (the JSON of /v1/classify)."
        ),
        "requestBody": {"required": True, "content": _json(_object("Inputs.", inputs=tensors))},
        "responses": {
            "200": {
                "description": "One row of each tensor per file.",
                "content": _json({"type": "object", "properties": {"outputs": tensors}}),
            },
            **_error_responses(),
        },
    }


def _error_responses() -> Schema:
    codes_by_status: dict[int, list[str]] = {}
    for code, status in STATUS_BY_CODE.items():
        codes_by_status.setdefault(status, []).append(code)
    return {
        str(status): {"description": ", ".join(codes), "content": _json(_ref("Error"))}
        for status, codes in sorted(codes_by_status.items())
    }


def _describe(schema: Schema, cls: type) -> None:
    """Add the sentences of the docstring to a schema; "rounded" numbers need nothing else."""
    schema["description"] = (cls.__doc__ or "").strip().partition("\n")[0]
    for field in schema_fields(cls):
        place = schema["properties"][field.name]
        if "$ref" in place:  # a reference may stand beside a description since OpenAPI 3.1
            place = schema["properties"][field.name] = dict(place)
        place["description"] = field.description


def _dataclasses_in(hint: Any) -> set[type]:
    found: set[type] = set()
    if is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        found = {hint}.union(*(_dataclasses_in(hints[field.name]) for field in fields(hint)))
    return found.union(*(_dataclasses_in(each) for each in get_args(hint)))


def _object(description: str, **properties: Schema) -> Schema:
    return {
        "type": "object",
        "description": description,
        "required": list(properties),
        "additionalProperties": False,
        "properties": properties,
    }


def _base64() -> Schema:
    return {"type": "string", "format": "byte", "description": "The audio file in base64."}


def _get(operation: str, summary: str, media_type: str = "application/json") -> Schema:
    schema = {"type": "object"} if media_type == "application/json" else {"type": "string"}
    ok = {"description": "OK", "content": {media_type: {"schema": schema}}}
    return {"get": {"operationId": operation, "summary": summary, "responses": {"200": ok}}}


def _with_model(path: Schema) -> Schema:
    model = {"name": "model", "in": "query", "required": False, "schema": {"type": "string"}}
    return {"get": {**path["get"], "parameters": [model]}}


def _of_model(path: Schema) -> Schema:
    model = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    return {method: {**operation, "parameters": [model]} for method, operation in path.items()}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> Schema:
    return {"$ref": REF_TEMPLATE.format(model=name)}
