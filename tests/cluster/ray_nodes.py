"""A Ray cluster on the hosts of a lab, started as the pods start it, with the service on it."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from deployments.proxy import write_program
from tests.cluster.lab import Host
from tests.support.kuberay import ROOT, find

BIN = Path(sys.executable).parent
GCS_PORT, DASHBOARD_PORT, HTTP_PORT = 6379, 8265, 8000
START_TIMEOUT_S = 180.0
STATUS_TIMEOUT_S = 30.0

TEST_ENVIRONMENT = {
    "RAY_memory_monitor_refresh_ms": "0",
    "PYTHONPATH": str(ROOT),
    "no_proxy": "*",
}


def pod_environment(overlay: str) -> dict[str, str]:
    """Variables with a literal value of the head's container; they include those of the workers."""
    is_job = overlay == "batch"
    kind, field = ("RayJob", "rayClusterSpec") if is_job else ("RayService", "rayClusterConfig")
    head = find(overlay, kind)["spec"][field]["headGroupSpec"]
    variables = head["template"]["spec"]["containers"][0]["env"]
    return {each["name"]: each["value"] for each in variables if "value" in each}


class RayNodes:
    """A Ray head and its workers.

    Args:
        folder: Ray's temporary folder; its path must be short, because it contains sockets.
        overlay: Kubernetes overlay whose pod variables every node gets.
        environment: variables of every node in addition to those of the pods.
    """

    def __init__(
        self, folder: Path, overlay: str, environment: dict[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.environment = {
            **pod_environment(overlay), **TEST_ENVIRONMENT,
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_TMPDIR": str(folder), **(environment or {}),
        }  # fmt: skip
        self.head: Host | None = None

    def start_head(
        self, host: Host, more: dict[str, str] | None = None, *options: str, n_cpus: int = 0
    ) -> None:
        """Start the head; it runs no tasks or replicas unless n_cpus is above 0."""
        self.head = host
        # A new pod would not have this file of its predecessor.
        (self.folder / "ray" / "ray_current_cluster").unlink(missing_ok=True)
        host.start(
            [
                str(BIN / "ray"), "start", "--head", "--block", "--node-ip-address", host.address,
                "--port", str(GCS_PORT), "--dashboard-host", "0.0.0.0", "--num-cpus", str(n_cpus),
                "--object-store-memory", str(100 << 20), "--temp-dir", str(self.folder / "ray"),
                *options,
            ],
            {**self.environment, **self._haproxy_paths(host), **(more or {})}, f"head-{host.name}",
        )  # fmt: skip
        wait_until(lambda: self._answers(host), START_TIMEOUT_S, "the head does not answer")

    def start_worker(self, host: Host, n_cpus: int = 4, *options: str) -> None:
        """Start a worker and wait until it joins: two at once would use the same socket names."""
        assert self.head is not None
        n_before = self.n_alive()
        host.start(
            [
                str(BIN / "ray"), "start", "--block", "--node-ip-address", host.address,
                "--address", f"{self.head.address}:{GCS_PORT}", "--num-cpus", str(n_cpus),
                "--object-store-memory", str(100 << 20), *options,
            ],
            {**self.environment, **self._haproxy_paths(host)}, f"worker-{host.name}",
        )  # fmt: skip
        wait_until(lambda: self.n_alive() > n_before, START_TIMEOUT_S, "the worker does not join")

    def n_alive(self) -> int:
        """Number of nodes that the head reports as alive."""
        assert self.head is not None
        address = f"http://{self.head.address}:{DASHBOARD_PORT}"
        listed = self.head.run(
            [str(BIN / "ray"), "list", "nodes", "--address", address, "--format", "json"],
            self.environment,
        )
        return listed.count('"ALIVE"')

    def deploy(self, config: dict[str, Any]) -> None:
        """Deploy through the dashboard, as the operator does; returns when the head answers."""
        assert self.head is not None
        path = self.folder / "serve_config.yaml"
        path.write_text(yaml.safe_dump(config))
        self.serve("deploy", str(path))
        wait_until(self.is_running, START_TIMEOUT_S, "the application does not run")
        wait_until(self._passes_on, START_TIMEOUT_S, "the head's proxy does not listen")

    def _passes_on(self) -> bool:
        """Whether the head's proxy passes requests on: it may start after the application."""
        assert self.head is not None
        url = f"http://{self.head.address}:{HTTP_PORT}/healthz"
        try:
            return "alive" in self.head.run(["curl", "-sf", "-m", "5", url], self.environment)
        except AssertionError:
            return False

    def serve(self, *arguments: str, timeout_s: float = 240) -> str:
        """Run Serve's command line on the head; returns its stdout."""
        assert self.head is not None
        dashboard = f"http://{self.head.address}:{DASHBOARD_PORT}"
        return self.head.run(
            [str(BIN / "serve"), *arguments, "--address", dashboard], self.environment, timeout_s
        )

    def is_running(self) -> bool:
        return bool(self._application().get("status") == "RUNNING")

    def n_running(self) -> int:
        """Number of running replicas of all deployments."""
        deployments = self._application().get("deployments", {}).values()
        return sum(each["replica_states"].get("RUNNING", 0) for each in deployments)

    def n_replicas(self, deployment: str) -> int:
        """Number of replicas of one deployment, in any state."""
        states = self._application()["deployments"][deployment]["replica_states"]
        return sum(states.values())

    def _application(self) -> dict[str, Any]:
        try:
            status = yaml.safe_load(self.serve("status", timeout_s=STATUS_TIMEOUT_S))
        except (AssertionError, subprocess.TimeoutExpired):
            # The dashboard does not answer yet, or the question hangs: it waits for a controller
            # that is lost.
            return {}
        found: dict[str, Any] = status["applications"].get("acousticsense", {})
        return found

    def _answers(self, host: Host) -> bool:
        url = f"http://{host.address}:{DASHBOARD_PORT}/api/gcs_healthz"
        try:
            return "success" in host.run(["curl", "-sf", "-m", "5", url], self.environment)
        except AssertionError:
            return False

    def _haproxy_paths(self, host: Host) -> dict[str, str]:
        """Separate HAProxy paths per host: unlike pods, the hosts share one file system."""
        folder = self.folder / host.name
        folder.mkdir(exist_ok=True)
        return {
            "RAY_SERVE_HAPROXY_BINARY_PATH": str(write_program(folder)),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "state"),
        }


def serve_config(overlay: str) -> dict[str, Any]:
    """Serve configuration of the overlay, with at most two replicas per deployment."""
    text = find(overlay, "RayService")["spec"]["serveConfigV2"]
    config: dict[str, Any] = yaml.safe_load(text)
    for deployment in config["applications"][0]["deployments"]:
        deployment["autoscaling_config"]["max_replicas"] = 2
    return config


class Load:
    """n requests at a steady rate from a host, in a separate process, and their outcomes."""

    def __init__(
        self, host: Host, nodes: RayNodes, urls: list[str], n: int, rate: float, *options: str
    ) -> None:
        self._path = nodes.folder / "load.json"
        self._path.unlink(missing_ok=True)
        self._process = host.start(
            [
                sys.executable, "-m", "tests.cluster.load", "--out", str(self._path),
                "--count", str(n), "--rate", str(rate), *options, *urls,
            ],
            nodes.environment, "load",
        )  # fmt: skip

    def n_done(self) -> int:
        return int(self._read().get("n_done", 0))

    def wait(self, timeout_s: float) -> dict[str, Any]:
        self._process.wait(timeout_s)
        return self._read()

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():
            return {}
        content: dict[str, Any] = json.loads(self._path.read_text())
        return content


def wait_until(holds: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
    deadline_s = time.monotonic() + timeout_s
    pause = threading.Event()
    while not holds():
        assert time.monotonic() < deadline_s, otherwise
        pause.wait(0.5)
