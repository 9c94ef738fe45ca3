"""Simulated hosts with their own addresses: network namespaces connected by a bridge.

The bridge is in a namespace too, so the machine's own network is not changed. Closing the lab ends
everything in it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

NETWORK = "10.77.0"
HUB = "hub"


def require_namespaces() -> None:
    """Skip where this user or machine cannot make network namespaces."""
    if shutil.which("ip") is None:
        pytest.skip("the command ip is not installed: install iproute2")
    probe = f"as-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("network namespaces need root")
    subprocess.run(["ip", "netns", "delete", probe], check=True)


class Lab:
    """Simulated hosts on one network.

    Args:
        folder: folder for the log files of the processes on the hosts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._prefix = f"as{os.getpid()}"
        self._hub = f"{self._prefix}-{HUB}"
        self.hosts: list[Host] = []
        _ip("netns", "add", self._hub)
        _ip("-n", self._hub, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._hub, "link", "set", "bridge", "up")

    def add_host(self) -> Host:
        """Add a host that all others can reach."""
        n = len(self.hosts) + 1
        host = Host(f"{self._prefix}-{n}", f"{NETWORK}.{n}", self._hub, f"port{n}", self.folder)
        self.hosts.append(host)
        return host

    def close(self) -> None:
        """End every process and remove every namespace."""
        for host in self.hosts:
            host.kill()
            _ip("netns", "delete", host.name)
        _ip("netns", "delete", self._hub)


class Host:
    """A network namespace with an address; its link to the hub can be cut."""

    def __init__(self, name: str, address: str, hub: str, port: str, folder: Path) -> None:
        self.name, self.address, self._hub, self._port = name, address, hub, port
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        _ip("netns", "add", name)
        _ip("-n", hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("-n", hub, "link", "set", port, "master", "bridge", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], log: str
    ) -> subprocess.Popen[bytes]:
        """Start a process on this host; its output is appended to LOG.log in the lab's folder."""
        with (self._folder / f"{log}.log").open("ab") as output:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command],
                env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self._started.append(process)
        return process

    def run(
        self, command: Sequence[str], environment: Mapping[str, str], timeout_s: float = 240
    ) -> str:
        """Run a command on this host until it ends; returns its stdout."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *command],
            env={**os.environ, **environment}, capture_output=True, text=True, check=False,
            timeout=timeout_s,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-2000:]
        return done.stdout

    def cut_off(self) -> None:
        """Cut the link: packets vanish, and no connection is reset."""
        _ip("-n", self._hub, "link", "set", self._port, "down")

    def rejoin(self) -> None:
        _ip("-n", self._hub, "link", "set", self._port, "up")

    def pids(self) -> list[int]:
        found = subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True
        )
        return [int(line) for line in found.stdout.split()]

    def kill(self) -> None:
        """SIGKILL to every process on this host, as when its power fails."""
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in self._started:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
        for process in self._started:
            process.wait(10)
        self._started.clear()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
