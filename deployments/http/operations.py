"""The operations of the OpenAPI document: what each path takes and which replies it has."""

from __future__ import annotations

from typing import Any

from deployments.http.errors import STATUS_BY_CODE

Schema = dict[str, Any]
REF_TEMPLATE = "#/components/schemas/{model}"

BINARY: Schema = {"schema": {"type": "string", "format": "binary"}}
BASE64: Schema = {
    "type": "string", "format": "byte", "minLength": 1,
    "description": "The audio file in base64.",
}  # fmt: skip
CLASSIFY, ABOUT, HEALTH, OTHERS = "classify", "about the service", "health", "other protocols"
TAGS = {
    CLASSIFY: "What the service is for.",
    ABOUT: "Which genres and models there are, what is configured, what happened so far.",
    HEALTH: "For load balancers and orchestrators; no key is needed.",
    OTHERS: "The same model through other protocols.",
}

NO_FURTHER: set[str] = set()
_WITHOUT_BODY = {"unauthorized", "acoustic_error", "service_error"}
_NAMES_MODEL = {"invalid_option"}
_UNREADY = {"unavailable"}
_EXAMPLES = {
    "400": ("invalid_request", "the body is not valid JSON"),
    "401": ("unauthorized", "API key missing or wrong: send Authorization: Bearer <key>"),
    "413": ("upload_too_large", "the body is 61,000,000 bytes or more, limit is 50,331,648 bytes"),
    "415": ("unsupported_audio", "the bytes are of no known audio format"),
    "422": ("audio_too_short", "the audio has 0.3 s, minimum is 1 s"),
    "429": ("overloaded", "the service is busy: its queue is full; try again later"),
    "503": ("unavailable", "a stage of the service is not ready"),
    "504": ("timeout", "no answer within 60 s"),
}


def operations(options: dict[str, Schema], prediction: Schema) -> dict[str, Schema]:
    """Path → its operations.

    Args:
        options: name of an option of a classification → its schema.
        prediction: an answer, as an example.
    """
    audio = {"audio/*": BINARY, "application/octet-stream": BINARY}
    query = [
        {"name": name, "in": "query", "required": False, "schema": schema}
        for name, schema in options.items()
    ]
    model = {"name": "model", "in": "query", "required": False, "schema": options["model"]}
    of_model = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "/v1/classify": {"post": _classify(audio, query, prediction)},
        "/v1/log-mel": {"post": _log_mel(audio, query)},
        "/v1/audio-classification": {"post": _hub()},
        "/v1/example.wav": _get(
            ABOUT, "example", "Ten seconds of made-up music", media_type="audio/wav"
        ),
        "/v1/labels": _get(
            ABOUT, "labels", "The genres of a model, with aliases and parents",
            _NAMES_MODEL, parameters=[model],
        ),
        "/v1/models": _get(ABOUT, "models", "The models that requests may name"),
        "/v1/config": _get(ABOUT, "config", "The effective configuration, without secrets"),
        "/v1/stats": _get(ABOUT, "stats", "Totals, latencies, batches, resources since the start"),
        "/healthz": _open(_get(HEALTH, "healthz", "Whether the process is alive", None)),
        "/readyz": _open(_get(HEALTH, "readyz", "Whether every stage answers", _UNREADY)),
        "/openapi.json": _open(_get(ABOUT, "openapi", "This document", None)),
        "/v2": _get(OTHERS, "v2_server", "Open Inference Protocol: the server"),
        "/v2/health/live": _get(OTHERS, "v2_live", "Open Inference Protocol: whether it is alive"),
        "/v2/health/ready": _get(
            OTHERS, "v2_ready", "Open Inference Protocol: whether it is ready", _UNREADY
        ),
        "/v2/models/{model}": _get(
            OTHERS, "v2_model", "Open Inference Protocol: a model",
            parameters=[of_model], is_found=True,
        ),
        "/v2/models/{model}/ready": _get(
            OTHERS, "v2_model_ready", "Open Inference Protocol: whether a model is ready",
            _UNREADY, parameters=[of_model], is_found=True,
        ),
        "/v2/models/{model}/infer": {"post": {**_infer(), "parameters": [of_model]}},
    }  # fmt: skip


def as_json(schema: Schema, **more: Any) -> Schema:
    """Content of a JSON body."""
    return {"application/json": {"schema": schema, **more}}


def reference(name: str) -> Schema:
    """Reference to a schema of the document."""
    return {"$ref": REF_TEMPLATE.format(model=name)}


def closed(description: str, **properties: Schema) -> Schema:
    """An object with these fields, all required, and no others."""
    return {
        "type": "object",
        "description": description,
        "required": list(properties),
        "additionalProperties": False,
        "properties": properties,
    }


def _classify(audio: Schema, query: list[Schema], prediction: Schema) -> Schema:
    form = {
        "type": "object",
        "properties": {"file": {"type": "array", "minItems": 1, "items": BINARY["schema"]}},
        "required": ["file"],
    }
    answer = {"anyOf": [reference("Prediction"), reference("Results")]}
    return {
        "operationId": "classify",
        "tags": [CLASSIFY],
        "summary": "Classify audio",
        "description": (
            "A raw file, a form with one or more files, or base64 in JSON. Options stand in the "
            "query, in fields of the form before the files, or in the JSON."
        ),
        "parameters": query,
        "requestBody": {
            "required": True,
            "content": {
                **audio,
                "multipart/form-data": {"schema": form},
                **as_json(
                    {"anyOf": [reference("JsonRequest"), reference("UriRequest")]},
                    example={"audio": "UklGRiQAAABXQVZF…", "effort": "balanced", "top_k": 3},
                ),
            },
        },
        "responses": {
            "200": {
                "description": "The prediction, or one result per file of a form with several.",
                "content": as_json(answer, example=prediction),
            },
            **_errors(),
        },
    }


def _log_mel(audio: Schema, query: list[Schema]) -> Schema:
    number = {"type": "number"}
    window = closed(
        "A window.", start_s=number, end_s=number,
        levels={**BASE64, "description": "Levels from 0 to 255 in base64, lowest band first."},
    )  # fmt: skip
    return {
        "operationId": "log_mel",
        "tags": [CLASSIFY],
        "summary": "What the model sees",
        "description": "A raw file; of the options, effort and model have a meaning.",
        "parameters": query,
        "requestBody": {"required": True, "content": audio},
        "responses": {
            "200": {
                "description": "The log-mel windows that would be evaluated.",
                "content": as_json(
                    closed(
                        "Windows and their axes.",
                        n_mels={"type": "integer"}, n_frames={"type": "integer"}, hop_s=number,
                        band_hz={"type": "array", "items": number},
                        windows={"type": "array", "items": window},
                    )
                ),
            },
            **_errors(),
        },
    }  # fmt: skip


def _hub() -> Schema:
    score = closed("A genre.", label={"type": "string"}, score={"type": "number"})
    parameters = {"type": "object", "description": "Options of /v1/classify, such as top_k."}
    body = {
        **closed("The form with parameters.", inputs=BASE64),
        "properties": {"inputs": BASE64, "parameters": parameters},
    }
    return {
        "operationId": "audio_classification",
        "tags": [OTHERS],
        "summary": "Classify audio, as the Hugging Face inference API does",
        "description": "A raw file, or base64 in JSON. Scores are calibrated probabilities.",
        "requestBody": {"required": True, "content": {"audio/*": BINARY, **as_json(body)}},
        "responses": {
            "200": {
                "description": "The genres, most probable first.",
                "content": as_json({"type": "array", "items": score}),
            },
            **_errors(),
        },
    }


def _infer() -> Schema:
    tensor = {"type": "object", "required": ["name", "datatype", "shape"]}
    tensors = {"type": "array", "items": tensor}
    return {
        "operationId": "v2_infer",
        "tags": [OTHERS],
        "summary": "Classify files, by the Open Inference Protocol",
        "description": (
            "One input tensor `audio` of BYTES: files in base64, or binary behind the JSON. "
            "Output tensors: genres, probabilities, answer (the JSON of /v1/classify)."
        ),
        "requestBody": {"required": True, "content": as_json(closed("Inputs.", inputs=tensors))},
        "responses": {
            "200": {
                "description": "One row of each tensor per file.",
                "content": as_json({"type": "object", "properties": {"outputs": tensors}}),
            },
            **_errors(is_found=True),
        },
    }


def _get(
    tag: str,
    operation: str,
    summary: str,
    further: set[str] | None = NO_FURTHER,
    *,
    parameters: list[Schema] | None = None,
    media_type: str = "application/json",
    is_found: bool = False,
) -> Schema:
    """An operation without a body; `further` are its error codes beside the usual ones."""
    schema = {"type": "object"} if media_type == "application/json" else {"type": "string"}
    ok = {"description": "OK", "content": {media_type: {"schema": schema}}}
    codes = set() if further is None else _WITHOUT_BODY | further
    return {
        "get": {
            "operationId": operation,
            "tags": [tag],
            "summary": summary,
            **({"parameters": parameters} if parameters else {}),
            "responses": {"200": ok, **_errors(codes, is_found)},
        }
    }


def _open(path: Schema) -> Schema:
    """The same path, for which no key is needed."""
    (operation,) = path.values()
    operation["security"] = []
    operation["responses"].pop("401", None)
    return path


def _errors(codes: set[str] | None = None, is_found: bool = False) -> Schema:
    """Replies for error codes, all of them by default; `is_found`: 404 for an unknown model."""
    by_status: dict[str, list[str]] = {}
    for code, status in STATUS_BY_CODE.items():
        if codes is None or code in codes:
            by_status.setdefault(str(status), []).append(code)
    if is_found:
        by_status["404"] = [*by_status.get("404", []), "not_found"]
    return {status: _error(status, found) for status, found in sorted(by_status.items())}


def _error(status: str, codes: list[str]) -> Schema:
    example = {}
    if status in _EXAMPLES and _EXAMPLES[status][0] in codes:
        code, message = _EXAMPLES[status]
        error = {"code": code, "message": message}
        example = {"example": {"error": error, "request_id": "5f2c9a7e4f0b4b5f8a0d3c1e2b6a7d90"}}
    reply: Schema = {
        "description": ", ".join(codes),
        "content": as_json(reference("Error"), **example),
    }
    if status == "429":
        seconds = {"description": "Seconds to wait before the next try."}
        reply["headers"] = {"retry-after": {**seconds, "schema": {"type": "integer"}}}
    return reply
