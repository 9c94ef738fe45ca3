"""One process that decodes, as `sandbox` sees it: `sandbox_worker` runs in it."""

from __future__ import annotations

import json
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any

from acoustic.errors import error_of_code
from acoustic.preprocess.cache import features_from_bytes
from acoustic.preprocess.preprocessor import PreprocessConfig
from acoustic.preprocess.ranged_file import (
    BytesMissingError,
    FileParts,
    PartsError,
    RangesUnavailableError,
)
from acoustic.preprocess.sandbox_worker import LENGTH
from acoustic.request import Effort
from acoustic.types import TrackFeatures

START_TIMEOUT_S = 60.0
MIN_CAPACITY_BITS, KEPT_BYTES = 20, 16 << 20
"""Smallest shared memory (it grows by powers of two), and the size above which it shrinks again."""

MAX_ANSWER_BYTES = 64 << 20
MAX_MISSING = 1000
"""Most bytes of an answer, and most ranges that are missing."""

MEMORY_VARIABLES = {
    "MALLOC_MMAP_THRESHOLD_": str(4 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 20),
    "MALLOC_ARENA_MAX": "2",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
"""Memory is kept from file to file, because every call into the kernel passes the filter; and there
is one thread, as in the parent."""

START = "import sys; sys.path[:] = {path!r}; from {module} import main; main()"


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxConfig:
    """Limits of the processes that decode.

    Attributes:
        enabled: whether files are decoded in processes of their own.
        processes: most processes in each replica of stage 1; each starts when it is needed.
        max_memory_bytes: most memory of each beyond what it has at its start, bytes.
        timeout_s: longest time for one file, seconds.
    """

    enabled: bool = True
    processes: int = 2
    max_memory_bytes: int = 2 << 30
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if self.processes < 1 or self.max_memory_bytes < 1 or self.timeout_s <= 0:
            raise ValueError("processes, max_memory_bytes and timeout_s must be positive")


class ChildEndedError(Exception):
    """The child died, took too long, or sent what it never sends."""


def parts_error(missing: Any, parts: FileParts) -> PartsError:
    """What the child lacks, which is not trusted: ranges of the file, or all of it."""
    try:
        ranges = tuple((int(start), int(stop)) for start, stop in missing)
    except (TypeError, ValueError) as error:
        raise ChildEndedError("its answer has another form") from error
    if len(ranges) > MAX_MISSING or any(
        not 0 <= start < stop <= parts.size_bytes for start, stop in ranges
    ):
        raise ChildEndedError("it asks for bytes that the file does not have")
    return BytesMissingError(ranges) if ranges else RangesUnavailableError("read it whole")


class Child:
    """One process that decodes, one file at a time.

    Args:
        config: settings of stage 1, without a cache.
        limits: limits of the process.
        environment: the variables that it has beside those of the memory.

    Raises:
        RuntimeError: it does not start.
    """

    def __init__(
        self, config: PreprocessConfig, limits: SandboxConfig, environment: Mapping[str, str]
    ) -> None:
        self._timeout_s = limits.timeout_s
        self._memory = os.memfd_create("audio", os.MFD_CLOEXEC)
        try:
            self._start(environment)
        except BaseException:
            os.close(self._memory)
            raise
        settings = pickle.dumps((config, limits.max_memory_bytes))
        try:
            self._send(settings)
            self._receive(START_TIMEOUT_S)
        except ChildEndedError as error:
            self.end()
            raise RuntimeError("a decoder process does not start") from error

    def _start(self, environment: Mapping[str, str]) -> None:
        os.ftruncate(self._memory, 1 << MIN_CAPACITY_BITS)
        self._mapped = mmap.mmap(self._memory, 1 << MIN_CAPACITY_BITS)
        self._socket, theirs = socket.socketpair()
        start = START.format(path=sys.path, module="acoustic.preprocess.sandbox_worker")
        environment = {**environment, **MEMORY_VARIABLES}
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", start, str(theirs.fileno()), str(self._memory)],
            env=environment, pass_fds=(theirs.fileno(), self._memory), close_fds=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, cwd="/",
        )  # fmt: skip
        theirs.close()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def process(
        self, data: bytes, effort: Effort, round_number: int, parts: FileParts | None
    ) -> TrackFeatures:
        """See `Sandbox.process`.

        Raises:
            ChildEndedError: the process has to be ended; the rest as there.
        """
        self._share(data)
        request = {
            "n_bytes": len(data), "capacity": len(self._mapped), "effort": effort,
            "round": round_number, "parts": None if parts is None else astuple(parts),
        }  # fmt: skip
        self._send(json.dumps(request).encode())
        head, content = self._receive(self._timeout_s)
        if "error" in head:
            raise error_of_code(str(head["error"]), str(head.get("message", "")))
        if "missing" in head and parts is not None:
            raise parts_error(head["missing"], parts)
        try:
            features = features_from_bytes(content, "")
            timings_ms = {str(k): float(v) for k, v in head["timings_ms"].items()}
        except Exception as error:  # of whatever kind: the child is not trusted
            raise ChildEndedError("its answer has another form") from error
        facts = replace(features.facts, cached=False)
        return replace(features, facts=facts, timings_ms=timings_ms)

    def _share(self, data: bytes) -> None:
        """Put a file into the memory that both map; it keeps its pages for the next one."""
        capacity = len(self._mapped)
        if len(data) > capacity or capacity > KEPT_BYTES >= len(data):
            self._mapped.close()
            capacity = 1 << max(MIN_CAPACITY_BITS, (len(data) - 1).bit_length())
            os.ftruncate(self._memory, capacity)
            self._mapped = mmap.mmap(self._memory, capacity)
        self._mapped[: len(data)] = data

    def end(self) -> None:
        """Kill it."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._socket.close()
        if self._memory >= 0:
            self._mapped.close()
            os.close(self._memory)
            self._memory = -1

    def _send(self, message: bytes) -> None:
        try:
            self._socket.settimeout(self._timeout_s)  # the last answer may have left less
            self._socket.sendall(LENGTH.pack(len(message)) + message)
        except OSError as error:
            raise ChildEndedError("it does not listen") from error

    def _receive(self, timeout_s: float) -> tuple[dict[str, Any], bytes]:
        """Head as JSON, and the bytes behind it."""
        until_s = time.monotonic() + timeout_s
        head = self._exactly(LENGTH.unpack(self._exactly(LENGTH.size, until_s))[0], until_s)
        try:
            found = json.loads(head)
            content = self._exactly(int(found.get("n_bytes", 0)), until_s)
        except ChildEndedError:
            raise
        except Exception as error:  # of whatever kind: the child is not trusted
            raise ChildEndedError("its answer has another form") from error
        return found, content

    def _exactly(self, n: int, until_s: float) -> bytes:
        if not 0 <= n <= MAX_ANSWER_BYTES:
            raise ChildEndedError(f"its answer has {n} bytes")
        parts = bytearray()
        while len(parts) < n:
            left_s = until_s - time.monotonic()
            try:
                self._socket.settimeout(max(1e-6, left_s))
                part = self._socket.recv(n - len(parts))
            except TimeoutError as error:
                raise ChildEndedError(f"no answer in {self._timeout_s:g} s") from error
            except OSError as error:
                raise ChildEndedError("the connection ended") from error
            if not part:
                raise ChildEndedError(f"exit code {self._process.poll()}")
            parts += part
        return bytes(parts)
