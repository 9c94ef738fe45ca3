"""A server that a benchmark starts: CPU time and memory of all its processes, and its end.

Processes are found by a mark in their environment, which every process that a server starts
inherits, however it is detached.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

MARK = "ACOUSTICSENSE_BENCHMARK"
READY_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 60.0


class ServerProcess:
    """A running server.

    Args:
        command: what starts it.
        url: address that it listens on.
        ready_path: path that answers 200 once it is ready.
        environment: variables beside those of this process.
        log: file for its output.

    Attributes:
        url: address that it listens on.
        ready_s: seconds from its start until it was ready.
        ready_cpu_s: CPU seconds of all its processes until then.

    Raises:
        RuntimeError: it ended, or was not ready in time.
    """

    def __init__(
        self,
        command: Sequence[str],
        url: str,
        ready_path: str,
        environment: dict[str, str],
        log: Path,
    ) -> None:
        self.url = url
        self._mark = uuid.uuid4().hex
        self._log = log
        begun_s = time.monotonic()
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment, MARK: self._mark},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_ready(f"{url}{ready_path}")
        except BaseException:
            self.stop()
            raise
        self.ready_s = time.monotonic() - begun_s
        self.ready_cpu_s = self.cpu_s()

    @property
    def mark(self) -> dict[str, str]:
        """Variable by which a process counts as one of the server's."""
        return {MARK: self._mark}

    def processes(self) -> list[psutil.Process]:
        """All processes of the server."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._mark:
                    found.append(process)
            except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
                continue
        return found

    def cpu_s(self) -> float:
        """CPU seconds that all its processes have used, with their ended children."""
        total = 0.0
        for process in self.processes():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total

    def pss_mb(self) -> float:
        """Memory of all its processes, MiB; what several share counts once."""
        total = 0
        for process in self.processes():
            try:
                total += process.memory_full_info().pss
            except (psutil.AccessDenied, psutil.NoSuchProcess):
                continue
        return total / 2**20

    def stop(self) -> None:
        """Interrupt it and wait; end what is left of it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        left = self.processes()
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=STOP_TIMEOUT_S)

    def _wait_until_ready(self, url: str) -> None:
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while time.monotonic() < deadline_s:
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended: {self._tail()}")
            try:
                with direct.open(url, timeout=5) as reply:
                    if reply.status == 200:
                        return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.2)
        raise RuntimeError(f"the server was not ready in {READY_TIMEOUT_S:.0f} s: {self._tail()}")

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]


@contextmanager
def running(
    command: Sequence[str],
    url: str,
    log: Path,
    ready_path: str = "/readyz",
    environment: dict[str, str] | None = None,
) -> Iterator[ServerProcess]:
    """A server while the context lasts."""
    server = ServerProcess(command, url, ready_path, environment or {}, log)
    try:
        yield server
    finally:
        server.stop()
