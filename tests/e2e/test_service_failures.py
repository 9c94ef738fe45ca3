"""What happens when a part of the service dies, and when its model is replaced, over real HTTP.

The tests share a service of their own and run in this order: the last one ends it. This file comes
after `test_service`, whose last test ends the other service: two at once are slow.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from acoustic.example import example_wav
from acoustic.pipeline import write_golden
from tests.e2e.conftest import Service, free_port, start, stop, wait_until_ready
from tests.support.paths import ROOT

PAUSE_S, ROLLOUT_S, RECOVERED_S, ENDED_S = 0.25, 150.0, 60.0, 90.0


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    port = free_port()
    command = [sys.executable, "-m", "acousticsense", "serve", "--port", str(port)]
    running = start(command, port, "or with made-up music")
    yield running
    stop(running)


def processes(service: Service, word: str) -> list[psutil.Process]:
    """Processes of this service, and of no other, whose command line contains a word."""
    found = []
    for each in psutil.Process(service.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if word in " ".join(each.cmdline()):
                found.append(each)
    return found


def kill(found: list[psutil.Process]) -> None:
    assert found
    for each in found:
        each.send_signal(signal.SIGKILL)
    psutil.wait_procs(found, ENDED_S)


def answers_again(service: Service) -> float:
    """Seconds until a request is answered."""
    begun_s = time.monotonic()
    pause = threading.Event()
    while time.monotonic() - begun_s < RECOVERED_S:
        with contextlib.suppress(httpx.TransportError), service.client() as client:
            if client.post("/v1/classify", content=example_wav()).status_code == 200:
                return time.monotonic() - begun_s
        pause.wait(0.2)
    pytest.fail(f"not answered within {RECOVERED_S} s")


class Steady:
    """Sends small files one after another until the context ends."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self.statuses: Counter[int | str] = Counter()
        self.models: Counter[tuple[str, str]] = Counter()

    def __enter__(self) -> Steady:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join(RECOVERED_S)

    def _send(self) -> None:
        with self._service.client() as client:
            for _i in range(10_000):
                if self._ended.wait(PAUSE_S):
                    return
                try:
                    reply = client.post("/v1/classify", content=example_wav() + os.urandom(16))
                except httpx.TransportError as error:
                    self.statuses[type(error).__name__] += 1
                    continue
                self.statuses[reply.status_code] += 1
                if reply.status_code == 200:
                    body = reply.json()
                    self.models[body["model"]["version"], body["model"]["digest"]] += 1


def test_a_model_is_replaced_while_requests_come(
    own: Service, tmp_path: Path, default_checkpoint: Path
) -> None:
    changed = _checkpoint(default_checkpoint, tmp_path / "new")
    settings = yaml.safe_load((ROOT / "configs" / "default.yaml").read_text())
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump({**settings, "checkpoint": "new"}))
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    config["http_options"]["port"] = own.port
    config["applications"][0]["args"]["config"] = str(tmp_path / "settings.yaml")
    file = tmp_path / "serve_config.yaml"
    file.write_text(yaml.safe_dump(config))
    with Steady(own) as seen:
        _deploy(own, file)
        until_s = time.monotonic() + ROLLOUT_S
        pause = threading.Event()
        while seen.models["rollout", changed] < 20 and time.monotonic() < until_s:
            pause.wait(0.5)
    assert seen.models["rollout", changed] >= 20, (seen.models, seen.statuses)
    assert len(seen.models) == 2  # the old one, then the new one; nothing in between
    assert set(seen.statuses) <= {200, 429}
    assert seen.statuses[429] <= 0.05 * seen.statuses.total()


def _checkpoint(shipped: Path, folder: Path) -> str:
    """The shipped model as another version; returns its digest."""
    shutil.copytree(shipped, folder)
    manifest: dict[str, Any] = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**manifest, "version": "rollout"}))
    for name in ("calibration.json", "neighbours.safetensors", "golden.safetensors"):
        (folder / name).unlink()  # of the other digest
    write_golden(folder)
    from acoustic.checkpoint_folder import CheckpointFolder

    return CheckpointFolder.open(folder).manifest.digest


def _deploy(service: Service, file: Path) -> None:
    (dashboard,) = processes(service, "dashboard/dashboard.py")
    (port,) = (word.partition("=")[2] for word in dashboard.cmdline() if word.startswith("--port="))
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "ray.serve.scripts", "deploy", str(file), "-a", address]
    environment = {**os.environ, "RAY_AUTH_MODE": "token"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1000:]


def test_the_proxy_is_started_again(own: Service) -> None:
    wait_until_ready(own)
    kill(processes(own, "haproxy.cfg"))
    assert answers_again(own) < RECOVERED_S


def test_requests_pass_while_the_controller_is_away(own: Service) -> None:
    with Steady(own) as seen:
        kill(processes(own, "ServeController"))
        until_s = time.monotonic() + RECOVERED_S
        pause = threading.Event()
        while not processes(own, "ServeController") and time.monotonic() < until_s:
            pause.wait(0.2)
        assert processes(own, "ServeController")
        n_before = seen.statuses.total()
        while seen.statuses.total() < n_before + 10 and time.monotonic() < until_s:
            pause.wait(0.2)
    assert set(seen.statuses) == {200}


def test_without_its_raylet_the_service_ends_and_leaves_nothing(own: Service) -> None:
    """Must stay the last test: whatever started the service has to start it again."""
    group = psutil.Process(own.process.pid).children(recursive=True)
    kill(processes(own, "raylet/raylet"))
    own.process.wait(ENDED_S)
    assert own.process.returncode != 0
    _, left = psutil.wait_procs(group, ENDED_S)
    assert not left, [each.cmdline() for each in left]
