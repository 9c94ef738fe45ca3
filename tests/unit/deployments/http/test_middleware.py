"""Request ids and the API key, around a small application; test_body_limit has the bodies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from acoustic.errors import AcousticError
from deployments.http import keys
from deployments.http.keys import Keys
from deployments.http.middleware import (
    MAX_REQUEST_ID_CHARACTERS,
    PUBLIC_PATHS,
    ApiKeys,
    RequestId,
    SecurityHeaders,
)

Headers = dict[str, bytes]
KEY = "s3cret-ß"


def scope_of(headers: Headers | None = None, path: str = "/v1/classify", **changes: Any) -> Scope:
    pairs = [(name.lower().encode(), value) for name, value in (headers or {}).items()]
    return {"type": "http", "method": "POST", "path": path, "headers": pairs, **changes}


class App:
    """Application that keeps the scopes it gets, and answers with a header of its own."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["type"] == "http":
            await PlainTextResponse("ok", headers={"x-own": "1"})(scope, receive, send)


def exchange(app: Any, scope: Scope) -> list[Message]:
    """Messages that an application sends for a request without a body."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


def reply_headers(sent: list[Message]) -> dict[bytes, bytes]:
    return dict(sent[0]["headers"])


class TestRequestId:
    @pytest.mark.parametrize("given", [b"abc-123", b"a b", b"x" * MAX_REQUEST_ID_CHARACTERS])
    def test_a_usable_id_is_kept(self, given: bytes) -> None:
        app = App()
        sent = exchange(RequestId(app, echo=True), scope_of({"X-Request-Id": given}))
        assert app.scopes[0]["state"]["request_id"] == given.decode()
        assert reply_headers(sent)[b"x-request-id"] == given
        assert reply_headers(sent)[b"x-own"] == b"1"

    @pytest.mark.parametrize("given", [b"", b"a\tb", b"a\x1b[31m", "ä".encode(), b"a\x7f"])
    def test_an_id_that_could_forge_a_log_line_is_replaced(self, given: bytes) -> None:
        app = App()
        exchange(RequestId(app, echo=True), scope_of({"x-request-id": given}))
        found = app.scopes[0]["state"]["request_id"]
        assert len(found) == 32
        assert int(found, 16) >= 0

    def test_a_long_id_is_cut(self) -> None:
        app = App()
        exchange(RequestId(app, echo=True), scope_of({"x-request-id": b"x" * 10_000}))
        assert app.scopes[0]["state"]["request_id"] == "x" * MAX_REQUEST_ID_CHARACTERS

    def test_two_requests_have_two_ids_and_keep_their_state(self) -> None:
        app = App()
        for _ in range(2):
            exchange(RequestId(app, echo=True), scope_of(state={"other": 1}))
        first, second = (scope["state"] for scope in app.scopes)
        assert first["request_id"] != second["request_id"]
        assert first["other"] == 1

    def test_without_echo_the_reply_is_left_alone(self) -> None:
        sent = exchange(RequestId(App(), echo=False), scope_of({"x-request-id": b"abc"}))
        assert b"x-request-id" not in reply_headers(sent)

    def test_what_is_no_request_passes_untouched(self) -> None:
        app = App()
        scope = {"type": "lifespan"}
        exchange(RequestId(app, echo=True), scope)
        assert app.scopes == [scope]
        assert "state" not in scope


class TestApiKeys:
    def send(self, headers: Headers, path: str = "/v1/classify") -> tuple[int, App]:
        app = App()

        def refuse(error: AcousticError, scope: Scope) -> PlainTextResponse:
            assert error.code == "unauthorized"
            return PlainTextResponse(error.message, 401)

        sent = exchange(ApiKeys(app, keys=Keys(KEY), refuse=refuse), scope_of(headers, path))
        return sent[0]["status"], app

    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
    def test_the_right_key_passes(self, scheme: str) -> None:
        """A header is sent as UTF-8 bytes, which the server decodes as Latin-1."""
        status, app = self.send({"authorization": f"{scheme} {KEY}".encode()})
        assert (status, len(app.scopes)) == (200, 1)

    @pytest.mark.parametrize(
        "value",
        [
            None, b"", b"Bearer", b"Bearer ", b"Bearer s3cret", b"Basic czNjcmV0", KEY.encode(),
            f"Basic {KEY}".encode(), f"Bearer  {KEY}".encode(), f"Bearer {KEY}x".encode(),
            f"Bearer {KEY}"[:-1].encode(), f"Bearer {KEY}".upper().encode(), b"\xff\xfe" * 500,
        ],
    )  # fmt: skip
    def test_any_other_header_is_refused(self, value: bytes | None) -> None:
        status, app = self.send({} if value is None else {"authorization": value})
        assert (status, app.scopes) == (401, [])

    def test_the_key_counts_in_its_own_header_only(self) -> None:
        status, _ = self.send({"x-api-key": KEY.encode(), "cookie": f"Bearer {KEY}".encode()})
        assert status == 401

    @pytest.mark.parametrize("path", sorted(PUBLIC_PATHS))
    def test_probes_need_no_key(self, path: str) -> None:
        assert self.send({}, path)[0] == 200

    @pytest.mark.parametrize(
        "path", ["/healthz/", "//healthz", "/readyz/../v1/classify", "/staticfiles"]
    )
    def test_paths_like_those_of_the_probes_need_one(self, path: str) -> None:
        assert self.send({}, path)[0] == 401

    def test_the_comparison_takes_the_same_time_for_every_key(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compared: list[tuple[bytes, bytes]] = []

        def compare(given: bytes, expected: bytes) -> bool:
            compared.append((given, expected))
            return given == expected

        monkeypatch.setattr(keys.hmac, "compare_digest", compare)
        for value in (b"", b"Bearer x", f"Bearer {KEY}".encode()):
            self.send({"authorization": value})
        assert len(compared) == 3, "no shortcut before the comparison"


class TestSecurityHeaders:
    def test_every_reply_has_them(self) -> None:
        headers = reply_headers(exchange(SecurityHeaders(App()), scope_of()))
        assert headers[b"x-content-type-options"] == b"nosniff"
        assert headers[b"x-frame-options"] == b"DENY"
        assert headers[b"referrer-policy"] == b"no-referrer"
        assert headers[b"x-own"] == b"1"

    def test_what_the_application_says_itself_stays(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            headers = {"referrer-policy": "same-origin"}
            await PlainTextResponse("ok", headers=headers)(scope, receive, send)

        headers = reply_headers(exchange(SecurityHeaders(app), scope_of()))
        assert headers[b"referrer-policy"] == b"same-origin"
