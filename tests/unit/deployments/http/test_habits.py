"""What clients send by habit: accepted, or answered with what to send instead."""

from __future__ import annotations

import base64
import gzip
import json
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from deployments.config import HttpConfig
from deployments.http.api import create_app
from deployments.http.keys import Keys
from tests.support.http import FORM_X, JSON, WAV, InProcess, check_error

CURL = {"content-type": "application/x-www-form-urlencoded"}
ORIGIN = "https://music.example"
PREFLIGHT = {"origin": ORIGIN, "access-control-request-method": "POST"}


def test_curl_d_is_named(client: TestClient) -> None:
    """`curl -d @FILE` removes zero bytes and line ends; --data-binary has the same content type."""
    stripped = WAV.translate(None, b"\0\r\n")
    reply = client.post("/v1/classify", content=stripped, headers=CURL)
    assert "--data-binary @FILE" in check_error(reply, 400, "invalid_request")
    assert client.post("/v1/classify", content=WAV, headers=CURL).status_code == 200


def test_a_file_name_instead_of_a_file_is_named(client: TestClient) -> None:
    reply = client.post("/v1/classify", content=b"song.mp3", headers=CURL)
    assert "'song.mp3', not a file" in check_error(reply, 400, "invalid_request")


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
def test_packed_bodies_are_refused_with_what_to_do(client: TestClient, coding: str) -> None:
    reply = client.post(
        "/v1/classify", content=gzip.compress(WAV), headers={"content-encoding": coding}
    )
    message = check_error(reply, 415, "unsupported_audio")
    assert coding in message
    assert "without Content-Encoding" in message


def test_packed_content_without_the_header_is_named(client: TestClient) -> None:
    reply = client.post("/v1/classify", content=gzip.compress(WAV))
    assert "gzip-compressed" in check_error(reply, 415, "unsupported_audio")


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ("filename*=UTF-8''na%C3%AFve.mp3", "naïve.mp3"),
        ("filename*=utf-8'en'a%20b.mp3", "a b.mp3"),
        ("filename=\"plain.mp3\"; filename*=UTF-8''other.mp3", "plain.mp3"),
    ],
)
def test_an_extended_file_name_alone_is_enough(
    client: TestClient, disposition: str, name: str
) -> None:
    head = f'--x\r\nContent-Disposition: form-data; name="file"; {disposition}\r\n\r\n'
    body = head.encode() + WAV + b"\r\n--x--\r\n"
    reply = client.post("/v1/classify", content=body, headers=FORM_X)
    assert reply.status_code == 200, reply.text
    assert reply.json()["file"] == name


def test_a_file_sent_as_text_is_named(client: TestClient) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc\r\n--x--\r\n'
    reply = client.post("/v1/classify", content=body, headers=FORM_X)
    assert "file=@song.mp3" in check_error(reply, 400, "invalid_request")


@pytest.mark.parametrize("form", ["plain", "data URI", "wrapped", "URL-safe", "unpadded"])
def test_every_form_of_base64_is_read(client: TestClient, form: str) -> None:
    text = base64.b64encode(WAV).decode()
    text = {
        "plain": text,
        "data URI": f"data:audio/wav;base64,{text}",
        "wrapped": "\r\n".join(text[i : i + 76] for i in range(0, len(text), 76)),
        "URL-safe": base64.urlsafe_b64encode(WAV).decode(),
        "unpadded": text.rstrip("="),
    }[form]
    expected = client.post("/v1/classify", content=WAV).json()["content_blake3"]
    reply = client.post("/v1/classify", content=json.dumps({"audio": text}), headers=JSON)
    assert reply.json()["content_blake3"] == expected


@pytest.mark.parametrize("text", ["not base64!", "a", "data:audio/wav,plain"])
def test_other_text_is_refused_with_what_to_send(client: TestClient, text: str) -> None:
    reply = client.post("/v1/classify", content=json.dumps({"audio": text}), headers=JSON)
    assert "or a data URI" in check_error(reply, 400, "invalid_request")


def test_a_long_query_is_refused_in_our_form(client: TestClient) -> None:
    reply = client.post(f"/v1/classify?file={quote('x' * 20_000)}", content=WAV)
    assert "limit is 4,096 bytes" in check_error(reply, 400, "invalid_request")


def test_pages_elsewhere_may_not_call_unless_allowed(client: TestClient) -> None:
    reply = client.options("/v1/classify", headers=PREFLIGHT)
    assert "http.allow_origins" in check_error(reply, 405, "method_not_allowed")
    assert "access-control-allow-origin" not in client.get("/v1/labels", headers=PREFLIGHT).headers


@pytest.mark.parametrize("key", ["", "secret"])
def test_allowed_pages_may_call(service: InProcess, key: str) -> None:
    """A preflight carries no key, so it is answered before the key is checked."""
    app = create_app(service, HttpConfig(allow_origins=(ORIGIN,)), keys=Keys(key))
    with TestClient(app) as client:
        preflight = client.options("/v1/classify", headers=PREFLIGHT)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == ORIGIN
        headers = {"origin": ORIGIN} | ({"authorization": f"Bearer {key}"} if key else {})
        reply = client.post("/v1/classify", content=WAV, headers=headers)
        assert reply.status_code == 200
        assert reply.headers["access-control-allow-origin"] == ORIGIN
        other = client.options(
            "/v1/classify", headers=PREFLIGHT | {"origin": "https://evil.example"}
        )
        assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("bad", ["music.example", "https://music.example/page", ""])
def test_what_is_not_an_origin_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="not an origin"):
        HttpConfig(allow_origins=(bad,))
