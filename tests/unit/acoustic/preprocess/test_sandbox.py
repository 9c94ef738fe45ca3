"""Decoding in a process of its own: the same features, and what a hostile decoder cannot do."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acoustic.content_cache import CacheConfig
from acoustic.errors import (
    AcousticError,
    AudioDecodeError,
    AudioTooShortError,
    UnsupportedAudioError,
)
from acoustic.preprocess import sandbox, sandbox_child
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from acoustic.preprocess.ranged_file import (
    BLOCK_BYTES,
    BytesMissingError,
    FileParts,
    Range,
    RangesUnavailableError,
)
from acoustic.preprocess.sandbox import Sandbox
from acoustic.preprocess.sandbox_child import (
    Child,
    ChildEndedError,
    SandboxConfig,
    parts_error,
)
from tests.support.sounds import encode, noise, sweep

WAV = encode(sweep(40.0), 22_050)
FLAC = encode(noise(20.0), 22_050, "flac")
CONFIG = PreprocessConfig()


@pytest.fixture
def box() -> Iterator[Sandbox]:
    found = Sandbox(CONFIG, SandboxConfig(processes=1))
    yield found
    found.close()


@pytest.mark.parametrize(("data", "effort"), [(WAV, "balanced"), (FLAC, "thorough")])
def test_the_features_are_the_same(box: Sandbox, data: bytes, effort: str) -> None:
    expected = Preprocessor(CONFIG).process(data, effort)  # type: ignore[arg-type]
    found = box.process(data, effort)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.log_mel, expected.log_mel)
    assert found.facts == expected.facts
    assert set(found.timings_ms) == set(expected.timings_ms)


def test_rounds_and_the_cache_work_as_without(box: Sandbox) -> None:
    plain = Preprocessor(CONFIG, CacheConfig())
    boxed = Preprocessor(CONFIG, CacheConfig(), elsewhere=box)
    for number in (0, 1):
        expected, found = (each.process(WAV, "auto", number) for each in (plain, boxed))
        np.testing.assert_array_equal(found.log_mel, expected.log_mel)
        assert found.facts == expected.facts
    assert boxed.process(WAV, "auto", 1).facts.cached


def test_errors_keep_their_class_and_the_process_lives(box: Sandbox) -> None:
    (pid,) = box.pids()
    for data, error in (
        (b"no audio", UnsupportedAudioError),
        (encode(sweep(0.3), 22_050), AudioTooShortError),
        (FLAC[:300], AudioDecodeError),
    ):
        with pytest.raises(error):
            box.process(data, "fast")
    assert box.pids() == [pid]
    assert box.process(WAV, "fast").n_windows == 1


def test_a_file_that_ends_the_process_costs_itself_and_is_refused(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pid,) = box.pids()
    killed = threading.Event()
    send = Child._send

    def fatal(child: Child, message: bytes) -> None:
        if not killed.is_set():
            killed.set()
            os.kill(pid, signal.SIGKILL)
        send(child, message)

    monkeypatch.setattr(Child, "_send", fatal)
    with pytest.raises(AudioDecodeError, match="ended the decoder"):
        box.process(WAV, "balanced")
    assert box.n_deaths == 1
    with pytest.raises(AudioDecodeError, match="ended the decoder before"):
        box.process(WAV, "fast")
    assert box.process(FLAC, "fast").n_windows == 1
    (another,) = box.pids()
    assert another != pid
    monkeypatch.setattr(sandbox, "REFUSED_S", 0.0)
    assert box.process(WAV, "fast").n_windows == 1


def test_a_process_that_died_while_idle_is_replaced(box: Sandbox) -> None:
    (pid,) = box.pids()
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert box.process(WAV, "fast").n_windows == 1
    assert box.n_deaths == 0


def test_a_file_that_takes_too_long_is_ended() -> None:
    box = Sandbox(CONFIG, SandboxConfig(timeout_s=0.001))
    with pytest.raises(AudioDecodeError, match="took too long"):
        box.process(WAV, "thorough")
    box.close()


def test_files_take_turns(box: Sandbox) -> None:
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(box.process(WAV, "fast").n_windows))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [1] * 8
    assert len(box.pids()) == 1


def test_the_environment_holds_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACOUSTICSENSE_API_KEY", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    box = Sandbox(CONFIG, SandboxConfig(), {"LANG": "C"})
    (pid,) = box.pids()
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except PermissionError:  # it cannot even be looked at
        environment = b""
    box.close()
    assert b"secret" not in environment


CONFINED = """
import os, socket, threading
from acoustic.preprocess.sandbox_worker import confine
go, results = threading.Event(), []
def older():
    go.wait()
    try:
        socket.socket()
    except OSError as error:
        results.append(error)
thread = threading.Thread(target=older)  # there before the filter, as those of numpy are
thread.start()
confine(1 << 30)
def in_an_older_thread():
    go.set()
    thread.join()
    if results:
        raise results[0]
tried = {
    "socket": lambda: socket.socket(),
    "unix socket": lambda: socket.socket(socket.AF_UNIX),
    "program": lambda: os.execv("/bin/true", ["true"]),
    "fork": lambda: os.fork() or os._exit(0),
    "new file": lambda: open("/tmp/acousticsense-written", "w"),
    "open for writing": lambda: os.open("/dev/null", os.O_WRONLY),
    "kill": lambda: os.kill(os.getppid(), 0),
    "pidfd": lambda: os.pidfd_open(os.getppid()),
    "truncate": lambda: os.truncate("/tmp/acousticsense-none", 0),
    "truncate on opening": lambda: os.open("/dev/null", os.O_RDONLY | os.O_TRUNC),
    "read": lambda: open("/proc/self/stat"),
    "environment of another": lambda: open(f"/proc/{os.getppid()}/environ"),
    "in an older thread": in_an_older_thread,
    "remove": lambda: os.unlink("/tmp/acousticsense-none"),
    "memory": lambda: bytearray(3 << 30),
}
for name, attempt in tried.items():
    try:
        attempt()
    except (OSError, MemoryError) as error:
        print(name, type(error).__name__)
    else:
        print(name, "DONE")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux")
def test_a_confined_process_can_do_nothing_but_decode() -> None:
    result = subprocess.run(
        [sys.executable, "-c", CONFINED], capture_output=True, text=True, check=True
    )
    found = dict(line.rsplit(" ", 1) for line in result.stdout.splitlines())
    assert found.pop("memory") == "MemoryError"
    assert set(found.values()) == {"PermissionError"}, found


def test_files_of_every_kind_are_decoded_as_in_the_process_itself(data_folder: Path) -> None:
    """A decoder that needed a file of its own, or a later import, would fail in the sandbox."""
    by_suffix = {path.suffix: path for path in sorted((data_folder / "formats").iterdir())}
    by_suffix.pop(".csv", None)
    here = Preprocessor(CONFIG)
    with contextlib.closing(Sandbox(CONFIG, SandboxConfig(processes=1))) as box:
        for path in by_suffix.values():
            data = path.read_bytes()
            assert _outcome(box, data) == _outcome(here, data), path.name


def _outcome(stage: Sandbox | Preprocessor, data: bytes) -> object:
    try:
        return stage.process(data, "fast").log_mel.tobytes()
    except AcousticError as error:
        return error.code, error.message


def test_limits_must_be_positive() -> None:
    for wrong in ({"processes": 0}, {"max_memory_bytes": 0}, {"timeout_s": 0.0}):
        with pytest.raises(ValueError, match="must be positive"):
            SandboxConfig(**wrong)  # type: ignore[arg-type]


class SlowStart(Child):
    """A child that starts when it may."""

    may_start: threading.Event
    begun: threading.Event

    def __init__(self, *arguments: Any) -> None:
        self.begun.set()
        assert self.may_start.wait(60)
        super().__init__(*arguments)


def test_no_file_waits_for_a_further_process_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    SlowStart.may_start, SlowStart.begun = threading.Event(), threading.Event()
    with ExitStack() as stack:
        box = stack.enter_context(contextlib.closing(Sandbox(CONFIG, SandboxConfig(processes=2))))
        stack.callback(SlowStart.may_start.set)  # one that is starting would keep it open
        (pid,) = box.pids()
        monkeypatch.setattr(sandbox, "Child", SlowStart)
        os.kill(pid, signal.SIGSTOP)  # so that the first file is there when the second comes
        with ThreadPoolExecutor(2) as pool:
            files = [pool.submit(box.process, data, "fast") for data in (WAV, FLAC)]
            assert SlowStart.begun.wait(60)
            os.kill(pid, signal.SIGCONT)
            assert [file.result(60).n_windows for file in files] == [1, 1]
        assert box.pids() == [pid]
        SlowStart.may_start.set()
        with ThreadPoolExecutor(2) as pool:
            assert len(list(pool.map(lambda _: box.process(WAV, "fast"), range(4)))) == 4
    assert box.pids() == [], "one that was starting ends with the others"


def test_a_process_that_does_not_start_is_an_error_once_there_is_none(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pid,) = box.pids()
    with monkeypatch.context() as patch:
        patch.setattr(sandbox_child.sys, "executable", "/bin/false")
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(RuntimeError, match="does not start"):
            box.process(WAV, "fast")
    assert box.process(WAV, "fast").n_windows == 1


def parts_of(data: bytes, *ranges: Range) -> tuple[bytes, FileParts]:
    return b"".join(data[start:stop] for start, stop in ranges), FileParts(len(data), ranges)


def test_parts_of_a_file_suffice_once_none_is_missing(box: Sandbox) -> None:
    data = encode(sweep(120.0), 22_050)
    expected = Preprocessor(CONFIG).process(data, "balanced")
    ranges: set[Range] = {(0, BLOCK_BYTES)}
    boxed = Preprocessor(CONFIG, elsewhere=box)
    pids = box.pids()
    for _ in range(1000):
        known, parts = parts_of(data, *sorted(ranges))
        try:
            found = boxed.process_parts(known, parts, "balanced")
            break
        except BytesMissingError as error:
            missing = error.ranges
        assert ranges.isdisjoint(missing)
        ranges.update(missing)
    np.testing.assert_array_equal(found.log_mel, expected.log_mel)
    assert replace(found.facts, content_blake3="") == replace(expected.facts, content_blake3="")
    assert len(known) < len(data) / 2
    assert box.pids() == pids


def test_a_file_that_must_be_read_whole_says_so(box: Sandbox) -> None:
    data, parts = parts_of(bytes(2 * BLOCK_BYTES), (0, BLOCK_BYTES))
    with pytest.raises(RangesUnavailableError):
        box.process(data, "fast", 0, parts)


@pytest.mark.parametrize(
    "missing", [[[5, 5]], [[-1, 3]], [[0, 101]], [["a", 2]], [[1]], 3, [[0, 1]] * 1001]
)
def test_what_a_process_says_it_lacks_is_not_trusted(missing: Any) -> None:
    with pytest.raises(ChildEndedError):
        parts_error(missing, FileParts(100, ()))
