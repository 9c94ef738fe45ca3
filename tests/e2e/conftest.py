"""The service as a user starts it, in a separate process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.support.paths import ROOT

START_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 90.0

TEST_ENVIRONMENT = {
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_worker_niceness": "0",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    "PYTHONUNBUFFERED": "1",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Service:
    """A running service and the lines it has printed."""

    process: subprocess.Popen[str]
    port: int
    lines: list[str] = field(default_factory=list)
    reader: threading.Thread = field(default_factory=threading.Thread)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)


def start(command: list[str], port: int, until: str, cwd: Path = ROOT) -> Service:
    """Start a command in a folder and wait until a line of its output contains `until`."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **TEST_ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    service, ready = Service(process, port), threading.Event()

    def read() -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                service.lines.append(line.rstrip())
                if until in line:
                    ready.set()
        ready.set()

    service.reader = threading.Thread(target=read, daemon=True)
    service.reader.start()
    if not ready.wait(START_TIMEOUT_S) or process.poll() is not None:
        stop(service)
        pytest.fail("the service did not start:\n" + "\n".join(service.lines[-40:]))
    return service


def wait_until_ready(service: Service) -> None:
    """Poll /readyz until it returns 200."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    pause = threading.Event()
    while time.monotonic() < deadline_s:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{service.url}/readyz", timeout=10).status_code == 200:
                return
        pause.wait(0.5)
    pytest.fail("the service did not become ready:\n" + "\n".join(service.lines[-40:]))


def stop(service: Service) -> int:
    """Send SIGINT, as Ctrl-C does, and wait; returns the exit code."""
    if service.process.poll() is None:
        service.process.send_signal(signal.SIGINT)
    try:
        code = service.process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        service.process.kill()
        code = service.process.wait()
    service.reader.join(STOP_TIMEOUT_S)
    return code


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """`acousticsense serve` with the shipped model."""
    port = free_port()
    command = [sys.executable, "-m", "acousticsense", "serve", "--port", str(port)]
    running = start(command, port, "or with made-up music")
    yield running
    stop(running)


@pytest.fixture(scope="session")
def plain_config() -> Iterator[tuple[Path, int]]:
    """The shipped serve_config.yaml with nothing changed but its port."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="as-") as folder:
        path = Path(folder) / "serve_config.yaml"
        text = (ROOT / "serve_config.yaml").read_text()
        assert "port: 8000" in text
        path.write_text(text.replace("port: 8000", f"port: {port}"))
        yield path, port
