"""A real S3 server for tests, and a proxy in front of it that injects faults.

The server is rclone's; it runs on a free port of the loopback interface and is ended through its
process handle. The proxy forwards everything, including signatures, and counts the requests.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

KEY, SECRET = "tester", "a-secret-of-the-tests"
BUCKET = "songs"
START_TIMEOUT_S = 20.0

Fault = Callable[[str, str, int], str]
"""(method, path, earlier requests with both) → "" or the name of a fault."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class S3Server:
    """`rclone serve s3` on a folder: every folder in it is a bucket."""

    def __init__(self, root: Path) -> None:
        command = shutil.which("rclone", path=str(Path(sys.executable).parent)) or "rclone"
        if shutil.which(command) is None:
            pytest.skip("rclone is not installed: install the extra dev")
        (root / BUCKET).mkdir(parents=True, exist_ok=True)
        self.root, self.port = root, free_port()
        self._process = subprocess.Popen(
            [
                command, "serve", "s3", str(root), "--addr", f"127.0.0.1:{self.port}",
                "--auth-key", f"{KEY},{SECRET}", "--config", os.devnull,
                # not 0: a timer of each folder would begin again at once, and take a core
                "--dir-cache-time", "10ms", "--vfs-cache-mode", "off", "--log-level", "ERROR",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._wait()

    @property
    def bucket(self) -> Path:
        return self.root / BUCKET

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def _wait(self) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, "rclone exited during start-up"
            threading.Event().wait(0.05)
        raise AssertionError("rclone did not open its port in time")


class FaultProxy:
    """HTTP proxy between a client and the server, with faults.

    Faults: "503", "403", "404" answer with that status; "reset" closes without an answer;
    "truncate" sends half of the body with the full Content-Length; "corrupt" changes one byte;
    "hang" sends no answer until the proxy is closed; "hang after" does the same after the server
    has processed the request.
    """

    def __init__(self, server: S3Server, fault: Fault = lambda method, path, count: "") -> None:
        self.fault = fault
        self.seen: Counter[tuple[str, str]] = Counter()
        self.body_bytes = 0
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, server.port))
        self._httpd.daemon_threads = True
        self._thread = threading.Thread(target=self._httpd.serve_forever, daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._httpd.server_port}"

    def gets(self) -> Counter[str]:
        """Path → number of GETs."""
        with self._lock:
            return Counter({path: n for (method, path), n in self.seen.items() if method == "GET"})

    def forget(self) -> None:
        with self._lock:
            self.seen.clear()
            self.body_bytes = 0

    def close(self) -> None:
        self._closed.set()
        self._httpd.shutdown()
        self._httpd.server_close()

    def note(self, method: str, path: str) -> str:
        with self._lock:
            count = self.seen[method, path]
            self.seen[method, path] += 1
        return self.fault(method, path, count)

    def count_bytes(self, n: int) -> None:
        with self._lock:
            self.body_bytes += n

    def wait_closed(self) -> None:
        self._closed.wait()


def _handler(proxy: FaultProxy, port: int) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            path = self.path.partition("?")[0]
            fault = proxy.note(self.command, path)
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length) if length else b""
            if fault == "hang":
                proxy.wait_closed()
            if fault in ("hang", "reset"):
                self.close_connection = True
                return
            if fault.isdigit():
                self._answer(int(fault), {}, b"")
                return
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
            upstream.request(self.command, self.path, body or None, headers)
            reply = upstream.getresponse()
            content = reply.read()
            upstream.close()
            if fault == "hang after":
                proxy.wait_closed()
                self.close_connection = True
                return
            if fault == "corrupt" and content:
                content = content[:-1] + bytes([content[-1] ^ 1])
            self._answer(reply.status, dict(reply.getheaders()), content, fault == "truncate")

        def _answer(
            self, status: int, headers: dict[str, str], content: bytes, half: bool = False
        ) -> None:
            self.send_response_only(status)
            is_head = self.command == "HEAD"
            length = headers.get("Content-Length", "0") if is_head else str(len(content))
            for name, value in headers.items():
                if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header(
                "Content-Length", length if self.command == "HEAD" else str(len(content))
            )
            self.end_headers()
            if not is_head:
                sent = content[: len(content) // 2] if half else content
                self.wfile.write(sent)
                proxy.count_bytes(len(sent))
            if half:
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
