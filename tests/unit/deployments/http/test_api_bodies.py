"""Limits on the bodies of requests: size, rate, their sum, and clients that go away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from deployments.config import HttpConfig
from deployments.http.api import create_app
from tests.support.http import (
    JSON,
    MAX_BODY_BYTES,
    WAV,
    InProcess,
    check_error,
)


def test_the_limit_is_a_byte_sharp(client: TestClient) -> None:
    padding = b"\x00" * MAX_BODY_BYTES
    check_error(client.post("/v1/classify", content=padding), 415, "unsupported_audio")
    message = check_error(
        client.post("/v1/classify", content=padding + b"x"), 413, "upload_too_large"
    )
    assert "limit is 2,000,000 bytes" in message


@pytest.mark.parametrize("form", ["raw", "multipart"])
def test_a_body_without_a_length_is_counted(client: TestClient, form: str) -> None:
    def chunks() -> Iterator[bytes]:
        if form == "multipart":
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(30):
            yield b"\x00" * 100_000

    types = {"raw": "audio/wav", "multipart": "multipart/form-data; boundary=x"}
    headers = {"content-type": types[form]}
    response = client.post("/v1/classify", content=chunks(), headers=headers)
    check_error(response, 413, "upload_too_large")


def drive(app: Starlette, receive: Callable[[], Awaitable[dict[str, Any]]]) -> tuple[int, Any]:
    """Send one request through the ASGI interface; returns its status and JSON body."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/v1/classify", "query_string": b"",
        "headers": [], "http_version": "1.1", "scheme": "http", "server": ("t", 80),
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], json.loads(body)


@pytest.mark.parametrize("behaviour", ["trickles", "stalls"])
def test_a_body_that_does_not_come_is_ended(service: InProcess, behaviour: str) -> None:
    """A rate is enforced, even if no more bytes arrive."""
    n_received = 0

    async def receive() -> dict[str, Any]:
        nonlocal n_received
        n_received += 1
        if behaviour == "stalls" and n_received > 1:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"x", "more_body": True}

    app = create_app(service, HttpConfig(min_bytes_per_s=1e9, slow_body_grace_s=0.1))
    status, body = drive(app, receive)
    assert (status, body["error"]["code"]) == (408, "upload_too_slow")
    assert "less than 1000000000 bytes/s" in body["error"]["message"]
    assert n_received >= 2


def test_after_the_body_nothing_is_timed(service: InProcess) -> None:
    """Waiting for the disconnect must not raise upload_too_slow."""
    app = create_app(service, HttpConfig(min_bytes_per_s=1e9, slow_body_grace_s=0.05))
    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            await asyncio.Event().wait()
        sent = True
        return {"type": "http.request", "body": WAV, "more_body": False}

    assert drive(app, receive)[0] == 200


def test_all_uploads_together_are_bounded(service: InProcess) -> None:
    http = HttpConfig(max_total_body_bytes=len(WAV) - 1)
    with TestClient(create_app(service, http)) as client:
        check_error(client.post("/v1/classify", content=WAV), 429, "overloaded")
        assert client.post("/v1/classify", content=b"text").status_code == 415


def test_a_client_that_goes_away_is_no_bug(service: InProcess) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    status, body = drive(create_app(service, HttpConfig()), receive)
    assert (status, body["error"]["code"]) == (400, "invalid_request")


def test_a_json_bomb_is_refused_unread(client: TestClient) -> None:
    many = "{" + ",".join(f'"{i}":1' for i in range(50_000)) + "}"
    message = check_error(
        client.post("/v1/classify", content=many, headers=JSON), 400, "invalid_request"
    )
    assert "more fields" in message
    long_name = {"x" * 100_000: 1}
    message = check_error(client.post("/v1/classify", json=long_name), 422, "invalid_option")
    assert len(message) < 200
