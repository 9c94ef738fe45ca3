"""Checks JSON bodies against the OpenAPI document that the service publishes."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator

from deployments.http.openapi import openapi_document

COMPONENTS = openapi_document()["components"]


def check_schema(body: Any, name: str = "Prediction") -> None:
    """Raise if a JSON value does not have one of the document's schemas; no key may be extra."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": COMPONENTS}
    Draft202012Validator(schema).validate(body)
