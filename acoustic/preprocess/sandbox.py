"""Stage 1 in a process of its own: a file that breaks a decoder costs that process and itself.

Decoders are large C libraries that read what strangers send. Here they run in a child without the
service's environment, which cannot open a socket, start a program or write a file, whose memory is
limited, and which is ended when a file takes too long. The file travels through shared memory, the
features come back as bytes that hold no code.

    parent                          child (`sandbox_worker`)
    bytes ─▶ memory that both map ─▶ Preprocessor.process ─▶ arrays and JSON ─▶ TrackFeatures
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from types import MappingProxyType
from typing import Any

from acoustic.digest import content_digest
from acoustic.errors import AcousticError, AudioDecodeError, error_of_code
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

logger = logging.getLogger(__name__)

REFUSED_S = 3600.0
MAX_REFUSED = 10_000
"""Seconds for which a content that ended a child is refused, and most contents remembered."""

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


class Sandbox:
    """Some children, each with one file at a time; thread-safe.

    A child takes seconds to start. The first starts here, further ones beside the files that wait
    for it, which go to whichever child is free first.

    Args:
        config: settings of stage 1, without a cache.
        limits: limits of the children.
        environment: the variables that they have beside those of the memory.
    """

    def __init__(
        self,
        config: PreprocessConfig,
        limits: SandboxConfig,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._config, self._limits, self._environment = config, limits, environment
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._idle = [_Child(config, limits, environment)]
        self._n_children = 1  # those that start, too
        self._is_starting = self._is_closed = False
        self._failure: Exception | None = None
        self._refused: OrderedDict[str, float] = OrderedDict()
        self.n_deaths = 0

    def process(
        self, data: bytes, effort: Effort, round_number: int = 0, parts: FileParts | None = None
    ) -> TrackFeatures:
        """See `Preprocessor.process`; the digest of the content is left to the caller.

        Args:
            data: content of a file, or some parts of it, one behind the other.
            effort: how many windows are evaluated.
            round_number: which round of `auto`, from 0.
            parts: where the parts lie in the file.

        Raises:
            InputError: as there; AudioDecodeError also where the file ended its process.
            PartsError: as `Preprocessor.process_parts`.
        """
        self.check(data)
        child = self._taken()
        try:
            features = child.process(data, effort, round_number, parts)
        except _ChildEndedError as error:
            self._end(child)
            self._refuse(data)
            self.n_deaths += 1
            logger.warning("a decoder process ended: %s", error)
            raise AudioDecodeError(
                "the audio cannot be decoded: it ended the decoder, or took too long"
            ) from error
        except (AcousticError, PartsError):
            self._give_back(child)
            raise
        except BaseException:
            self._end(child)  # its next answer would be about this file
            raise
        self._give_back(child)
        return features

    def check(self, data: bytes) -> None:
        """Raise if this content ended a child within the last hour.

        Raises:
            AudioDecodeError: it did.
        """
        if not self._refused:
            return
        at_s = self._refused.get(content_digest(data))
        if at_s is not None and time.monotonic() - at_s < REFUSED_S:
            raise AudioDecodeError("the audio cannot be decoded: it ended the decoder before")

    def close(self) -> None:
        """End the children."""
        with self._changed:
            self._is_closed = True
            while self._is_starting:
                self._changed.wait()
            for child in self._idle:
                child.end()
            self._idle.clear()

    def pids(self) -> Sequence[int]:
        """Process ids of the idle children."""
        with self._lock:
            return [child.pid for child in self._idle]

    def _taken(self) -> _Child:
        """The first child that is free; a further one starts meanwhile, where there may be more.

        Raises:
            RuntimeError: there is no child, and none can be started.
        """
        with self._changed:
            while True:
                while self._idle:
                    child = self._idle.pop()
                    if child.is_alive:
                        return child
                    child.end()
                    self._n_children -= 1
                if not self._n_children and self._failure is not None:
                    failure, self._failure = self._failure, None  # the next file tries again
                    raise RuntimeError("a decoder process does not start") from failure
                self._start_another()
                self._changed.wait()

    def _start_another(self) -> None:
        """Start one more child in the background, one at a time; call it with the lock."""
        if self._is_starting or self._is_closed or self._n_children >= self._limits.processes:
            return
        self._is_starting = True
        self._n_children += 1
        threading.Thread(target=self._start, name="decoder-start", daemon=True).start()

    def _start(self) -> None:
        child = None
        try:
            child = _Child(self._config, self._limits, self._environment)
        except Exception as error:  # whoever waits raises it
            self._failure = error
            logger.exception("a decoder process does not start")
        with self._changed:
            self._is_starting = False
            if child is None:
                self._n_children -= 1
            else:
                self._failure = None
                self._idle.append(child)
            self._changed.notify_all()

    def _give_back(self, child: _Child) -> None:
        with self._changed:
            self._idle.append(child)
            self._changed.notify()

    def _end(self, child: _Child) -> None:
        """End a child, and start another in its place."""
        child.end()
        with self._changed:
            self._n_children -= 1
            self._start_another()
            self._changed.notify()

    def _refuse(self, data: bytes) -> None:
        with self._lock:
            self._refused[content_digest(data)] = time.monotonic()
            while len(self._refused) > MAX_REFUSED:
                self._refused.popitem(last=False)


class _ChildEndedError(Exception):
    """The child died, took too long, or sent what it never sends."""


def _parts_error(missing: Any, parts: FileParts) -> PartsError:
    """What the child lacks, which is not trusted: ranges of the file, or all of it."""
    try:
        ranges = tuple((int(start), int(stop)) for start, stop in missing)
    except (TypeError, ValueError) as error:
        raise _ChildEndedError("its answer has another form") from error
    if len(ranges) > MAX_MISSING or any(
        not 0 <= start < stop <= parts.size_bytes for start, stop in ranges
    ):
        raise _ChildEndedError("it asks for bytes that the file does not have")
    return BytesMissingError(ranges) if ranges else RangesUnavailableError("read it whole")


class _Child:
    """One process that decodes."""

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
        except _ChildEndedError as error:
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
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def process(
        self, data: bytes, effort: Effort, round_number: int, parts: FileParts | None
    ) -> TrackFeatures:
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
            raise _parts_error(head["missing"], parts)
        try:
            features = features_from_bytes(content, "")
            timings_ms = {str(k): float(v) for k, v in head["timings_ms"].items()}
        except Exception as error:  # of whatever kind: the child is not trusted
            raise _ChildEndedError("its answer has another form") from error
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
            raise _ChildEndedError("it does not listen") from error

    def _receive(self, timeout_s: float) -> tuple[dict[str, Any], bytes]:
        """Head as JSON, and the bytes behind it."""
        until_s = time.monotonic() + timeout_s
        head = self._exactly(LENGTH.unpack(self._exactly(LENGTH.size, until_s))[0], until_s)
        try:
            found = json.loads(head)
            content = self._exactly(int(found.get("n_bytes", 0)), until_s)
        except _ChildEndedError:
            raise
        except Exception as error:  # of whatever kind: the child is not trusted
            raise _ChildEndedError("its answer has another form") from error
        return found, content

    def _exactly(self, n: int, until_s: float) -> bytes:
        if not 0 <= n <= MAX_ANSWER_BYTES:
            raise _ChildEndedError(f"its answer has {n} bytes")
        parts = bytearray()
        while len(parts) < n:
            left_s = until_s - time.monotonic()
            try:
                self._socket.settimeout(max(1e-6, left_s))
                part = self._socket.recv(n - len(parts))
            except TimeoutError as error:
                raise _ChildEndedError(f"no answer in {self._timeout_s:g} s") from error
            except OSError as error:
                raise _ChildEndedError("the connection ended") from error
            if not part:
                raise _ChildEndedError(f"exit code {self._process.poll()}")
            parts += part
        return bytes(parts)
