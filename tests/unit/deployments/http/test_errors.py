"""Errors as replies: status, body and headers of every error, without an application."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import Response

from acoustic.errors import (
    AcousticError,
    AudioTooShortError,
    CheckpointError,
    InputError,
    OverloadedError,
    ServiceError,
    UnauthorizedError,
    UnavailableError,
)
from deployments.http import errors
from deployments.http.errors import (
    STATUS_BY_CODE,
    error_body,
    error_reply,
    json_reply,
    on_acoustic_error,
    on_bug,
    on_disconnect,
    on_http_error,
    on_multipart_error,
)
from tests.support.schema import check_schema

SCOPE: dict[str, Any] = {
    "type": "http", "method": "GET", "path": "/", "headers": [], "state": {"request_id": "id-1"}
}  # fmt: skip


def classes(cls: type[AcousticError] = AcousticError) -> Iterator[type[AcousticError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from classes(child)


def body_of(reply: Response) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(bytes(reply.body))
    return body


def handled(handler: Any, error: Exception) -> Response:
    reply: Response = asyncio.run(handler(Request(SCOPE), error))
    body = body_of(reply)
    check_schema(body, "Error")
    assert body["request_id"] == "id-1"
    return reply


@pytest.mark.parametrize("cls", list(classes()), ids=lambda cls: cls.__name__)
def test_the_status_says_whose_fault_it_is(cls: type[AcousticError]) -> None:
    status = STATUS_BY_CODE[cls.code]
    if issubclass(cls, InputError):
        assert 400 <= status < 500
    elif issubclass(cls, OverloadedError):
        assert status == 429
    else:
        assert 500 <= status < 600


@pytest.mark.parametrize("cls", list(classes()), ids=lambda cls: cls.__name__)
def test_details_of_the_machine_stay_inside(cls: type[AcousticError]) -> None:
    body = error_body(cls("failed at /home/secret"))
    assert body["code"] == cls.code
    assert ("secret" in body["message"]) == (STATUS_BY_CODE[cls.code] != 500)


def test_json_has_no_nan_and_keeps_letters() -> None:
    reply = json_reply({"name": "Björk ☃", "n": 1.5}, 201)
    assert reply.status_code == 201
    assert bytes(reply.body) == '{"name":"Björk ☃","n":1.5}'.encode()
    assert reply.headers["content-type"] == "application/json"
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            json_reply({"confidence": value})


def test_further_fields_stand_beside_the_error() -> None:
    reply = error_reply(AudioTooShortError("0.3 s"), SCOPE, results=[1])
    assert reply.status_code == 422
    assert body_of(reply) == {
        "error": {"code": "audio_too_short", "message": "0.3 s"},
        "request_id": "id-1",
        "results": [1],
    }


@pytest.mark.parametrize(("wait_s", "expected"), [(0.2, "1"), (1.0, "1"), (2.5, "3"), (30, "30")])
def test_only_overload_says_when_to_retry(wait_s: float, expected: str) -> None:
    reply = error_reply(OverloadedError("busy", retry_after_s=wait_s), SCOPE)
    assert reply.headers["retry-after"] == expected, "whole seconds, never 0"
    assert "retry-after" not in error_reply(UnavailableError("down"), SCOPE).headers


def test_only_a_missing_key_asks_for_one() -> None:
    assert error_reply(UnauthorizedError("x"), SCOPE).headers["www-authenticate"] == "Bearer"
    assert "www-authenticate" not in error_reply(AudioTooShortError("x"), SCOPE).headers


@pytest.mark.parametrize(
    ("error", "is_logged"),
    [(ServiceError("x"), True), (UnavailableError("x"), True), (AudioTooShortError("x"), False)],
)
def test_faults_of_the_service_are_logged_without_their_text(
    caplog: pytest.LogCaptureFixture, error: AcousticError, is_logged: bool
) -> None:
    with caplog.at_level(logging.INFO, logger="deployments.http.errors"):
        handled(on_acoustic_error, error)
    expected = [f"request failed code={error.code} key="] if is_logged else []
    assert [record.getMessage() for record in caplog.records] == expected


def test_refusals_are_logged_once_a_second_with_their_number(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [5.0]
    monkeypatch.setattr(errors, "_refusals", errors.Refusals(lambda: now_s[0]))
    with caplog.at_level(logging.INFO, logger="deployments.http.errors"):
        for at_s in (5.0, 5.1, 5.9, 6.0, 6.5, 9.0):
            now_s[0] = at_s
            assert handled(on_acoustic_error, OverloadedError("busy")).status_code == 429
        handled(on_acoustic_error, UnavailableError("down"))  # other faults one by one
    assert [record.getMessage() for record in caplog.records] == [
        "requests refused n=1 code=overloaded",
        "requests refused n=3 code=overloaded",
        "requests refused n=2 code=overloaded",
        "request failed code=unavailable key=",
    ]


def test_a_broken_checkpoint_is_an_internal_error() -> None:
    reply = handled(on_acoustic_error, CheckpointError("/models/secret is damaged"))
    assert reply.status_code == 500
    assert body_of(reply)["error"]["message"] == "internal error"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "invalid_request"),
        (404, "not_found"),
        (405, "method_not_allowed"),
        (406, "http_error"),
        (413, "http_error"),
    ],
)
def test_starlettes_errors_have_the_same_body(status: int, code: str) -> None:
    reply = handled(on_http_error, HTTPException(status, "what is wrong"))
    assert reply.status_code == status
    assert body_of(reply)["error"] == {"code": code, "message": "what is wrong"}


def test_headers_of_starlettes_errors_are_kept() -> None:
    reply = handled(on_http_error, HTTPException(405, "no", headers={"allow": "POST"}))
    assert reply.headers["allow"] == "POST"
    assert reply.headers["content-type"] == "application/json"


def test_other_failures_have_a_body_as_well() -> None:
    found = [
        handled(on_multipart_error, MultiPartException("Too many files.")),
        handled(on_disconnect, RuntimeError()),
        handled(on_bug, KeyError("/home/secret")),
    ]
    assert [reply.status_code for reply in found] == [400, 400, 500]
    bodies = [body_of(reply)["error"] for reply in found]
    assert bodies[0] == {"code": "invalid_request", "message": "malformed form: Too many files."}
    assert bodies[2] == {"code": "internal_error", "message": "internal error"}
