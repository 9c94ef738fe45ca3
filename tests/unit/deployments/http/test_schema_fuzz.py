"""Requests that schemathesis makes up from the OpenAPI document, sent to the application.

Valid and invalid ones: every reply must have a documented status, type and schema, none may be a
failure of the service, and what the document forbids must be refused.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from acoustic.example import example_wav
from acoustic.pipeline import Pipeline
from deployments.config import HttpConfig
from deployments.http.api import create_app
from deployments.http.openapi import openapi_document
from tests.support.http import InProcess

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
CHECKS = schemathesis.checks

N_EXAMPLES = 25
DOCUMENT = openapi_document()["paths"]
OPERATIONS = [
    (path, method, mode)
    for path, operations in DOCUMENT.items()
    for method, operation in operations.items()
    for mode in (
        # what has neither a query nor a body cannot be asked wrongly
        ("positive", "negative")
        if "requestBody" in operation or path == "/v1/labels"
        else ("positive",)
    )
]
AUDIO = example_wav(6)


@pytest.fixture(scope="module")
def document(pipeline: Pipeline) -> Any:
    app = create_app(InProcess(pipeline), HttpConfig())
    return schemathesis.openapi.from_asgi("/openapi.json", app)


def checked(case: Any) -> int:
    """Send a request and check its reply; its status."""
    response = case.call()
    # made-up bytes are no audio, so what fits the document may be refused
    case.validate_response(response, excluded_checks=[CHECKS.positive_data_acceptance])
    return int(response.status_code)


@pytest.mark.parametrize(("path", "method", "mode"), OPERATIONS)
def test_replies_are_as_the_document_says(document: Any, path: str, method: str, mode: str) -> None:
    cases = document[path][method.upper()].as_strategy(schemathesis.GenerationMode(mode))

    @given(case=cases)
    @settings(
        max_examples=N_EXAMPLES, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def check(case: Any) -> None:
        checked(case)

    check()


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/log-mel", "/v1/audio-classification"])
def test_made_up_options_with_real_audio(document: Any, path: str) -> None:
    operation = document[path]["POST"]
    statuses: set[int] = set()

    @given(case=operation.as_strategy(body=AUDIO, media_type="application/octet-stream"))
    @settings(
        max_examples=N_EXAMPLES, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def check(case: Any) -> None:
        statuses.add(checked(case))

    check()
    assert 200 in statuses
