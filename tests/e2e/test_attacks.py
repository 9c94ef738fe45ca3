"""Clients that send slowly or too much: the others must not notice. At small size."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from acoustic.example import example_wav
from tests.e2e.conftest import Service

N_HALF_HEADERS, N_STALLED, N_LARGE = 300, 6, 12
STALLED_BYTES, LARGE_BYTES = 12 << 20, 40_000_000
N_HONEST = 20
MAX_HONEST_S = 10.0
"""Far above what is usual (benchmarks/chaos.py measures it), below a service that is stuck."""

ENDED_WITHIN_S = 40.0


@pytest.fixture
def connections(service: Service) -> Iterator[list[socket.socket]]:
    opened: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        yield opened
        for each in opened:
            stack.enter_context(each)


def connect(service: Service, opened: list[socket.socket]) -> socket.socket:
    each = socket.create_connection(("127.0.0.1", service.port), timeout=ENDED_WITHIN_S)
    opened.append(each)
    return each


def honest_requests_pass(service: Service) -> None:
    with service.client() as client:
        for _ in range(N_HONEST):
            begun_s = time.monotonic()
            # other bytes behind the audio each time: an answer from the cache would tell nothing
            reply = client.post("/v1/classify", content=example_wav() + os.urandom(16))
            assert reply.status_code == 200, reply.text
            assert time.monotonic() - begun_s < MAX_HONEST_S


def read_all(each: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := each.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def error_code(reply: bytes) -> str:
    code: str = json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["code"]
    return code


def test_headers_that_never_end(service: Service, connections: list[socket.socket]) -> None:
    for _ in range(N_HALF_HEADERS):
        connect(service, connections).sendall(b"POST /v1/classify HTTP/1.1\r\nhost: a\r\nx-a: ")
    honest_requests_pass(service)
    for each in connections:  # each is ended by the service; HAProxy has its own text for it
        reply = read_all(each)
        assert not reply or reply.startswith(b"HTTP/1.1 408 ")


def test_uploads_that_stand_still(service: Service, connections: list[socket.socket]) -> None:
    head = f"POST /v1/classify HTTP/1.1\r\nhost: a\r\ncontent-length: {STALLED_BYTES}\r\n\r\n"
    body = bytes(STALLED_BYTES - 1)

    def send(each: socket.socket) -> None:
        with contextlib.suppress(OSError):  # those beyond the places are refused while they send
            each.sendall(head.encode() + body)

    senders = [
        threading.Thread(target=send, args=(connect(service, connections),))
        for _ in range(N_STALLED)
    ]
    for sender in senders:
        sender.start()
    honest_requests_pass(service)
    for sender in senders:
        sender.join(ENDED_WITHIN_S)
    codes = {error_code(reply) for each in connections if (reply := read_all(each))}
    assert "upload_too_slow" in codes
    assert codes <= {"upload_too_slow", "overloaded"}


def test_many_large_uploads(service: Service) -> None:
    statuses: list[int] = []

    def upload() -> None:
        with service.client() as client, contextlib.suppress(httpx.TransportError):
            statuses.append(client.post("/v1/classify", content=bytes(LARGE_BYTES)).status_code)

    senders = [threading.Thread(target=upload) for _ in range(N_LARGE)]
    for sender in senders:
        sender.start()
    honest_requests_pass(service)
    for sender in senders:
        sender.join(2 * ENDED_WITHIN_S)
    # zeros are not audio; those beyond the places for large bodies are refused
    assert 415 in statuses
    assert set(statuses) <= {415, 429}
