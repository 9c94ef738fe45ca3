"""OpenAPI document, generated from the dataclasses of requests and answers.

Types come from the hints, descriptions from the Attributes blocks of the docstrings, so the
document cannot differ from the service.
"""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter

from acoustic import __version__
from acoustic.prediction import Prediction
from acoustic.request import RequestOptions
from acoustic.schema import attribute_descriptions, schema_fields
from deployments.http.operations import (
    BASE64,
    REF_TEMPLATE,
    TAGS,
    Schema,
    closed,
    operations,
    reference,
)
from deployments.strict import strict_adapter

EXAMPLE = Path(__file__).with_name("example_answer.json")
"""An answer of the shipped model about its own example, the one in docs/http.md."""

URI: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": 2048,
    "description": "https://, s3://, gs:// or file:// of an allowed place; see docs/http.md.",
}

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
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": operations(_option_schemas(), json.loads(EXAMPLE.read_text(encoding="utf-8"))),
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
    results = {"anyOf": [reference(Prediction.__name__), reference("FileError")]}
    return {
        **answer_schemas(),
        "Error": _error(),
        "FileError": closed("The failure of one file of several.", file=file, error=ERROR),
        "Results": closed(
            "The answers for several files of one form, in its order.",
            results={"type": "array", "items": results},
        ),
        "JsonRequest": {
            **closed("Options beside the audio.", audio=BASE64),
            "properties": {"audio": BASE64, **_option_schemas()},
        },
        "UriRequest": {
            **closed("A place that the operator allows, in place of the audio.", uri=URI),
            "properties": {"uri": URI, **_option_schemas()},
        },
    }


def _error() -> Schema:
    schema = closed("Any failure.", error=ERROR, request_id={"type": "string"})
    results = {
        "type": "array",
        "items": reference("FileError"),
        "description": "Only for a form with several files of which none has an answer: each.",
    }
    return {**schema, "properties": {**schema["properties"], "results": results}}


def _option_schemas() -> dict[str, Schema]:
    strict_adapter(RequestOptions)
    properties: dict[str, Schema] = TypeAdapter(RequestOptions).json_schema()["properties"]
    described = attribute_descriptions(RequestOptions)
    return {name: {**schema, "description": described[name]} for name, schema in properties.items()}


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
