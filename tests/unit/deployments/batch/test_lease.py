"""The lease of an output: one job at a time, taken over from the dead, lost to nobody."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from acoustic.errors import ConfigError
from deployments.batch import lease
from deployments.batch.lease import LEASE_FILE, Holder, Lease
from deployments.batch.storage import StorageOptions

OPTIONS = StorageOptions()


def held(out: Path) -> Holder:
    return Holder(**json.loads((out / LEASE_FILE).read_text()))


@pytest.fixture
def other(tmp_path: Path) -> Holder:
    """A job on another machine, whose lease is there."""
    with Lease(str(tmp_path), OPTIONS):
        own = held(tmp_path)
    found = replace(own, job="x", user="eve", host="elsewhere", boot="b")
    (tmp_path / LEASE_FILE).write_text(json.dumps(asdict(found)))
    return found


def test_it_is_there_while_the_job_runs(tmp_path: Path) -> None:
    with Lease(str(tmp_path), OPTIONS):
        assert held(tmp_path).pid == os.getpid()
    assert not (tmp_path / LEASE_FILE).exists()


def test_a_second_job_is_told_whose_it_is(tmp_path: Path) -> None:
    with Lease(str(tmp_path), OPTIONS):
        first = held(tmp_path)
        with pytest.raises(ConfigError, match=re.escape(first.since)):
            Lease(str(tmp_path), OPTIONS).__enter__()
        assert held(tmp_path) == first
    with Lease(str(tmp_path), OPTIONS):
        pass


def test_a_job_that_was_killed_here_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, time; from deployments.batch.lease import *; "
        "Lease(sys.argv[1], StorageOptions()).__enter__(); print('held', flush=True); "
        "time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(ConfigError):
            Lease(str(tmp_path), OPTIONS).__enter__()
        process.kill()
    with Lease(str(tmp_path), OPTIONS):
        assert held(tmp_path).pid == os.getpid()


def test_another_process_of_the_same_number_holds_nothing(tmp_path: Path) -> None:
    with Lease(str(tmp_path), OPTIONS):
        own = held(tmp_path)
    (tmp_path / LEASE_FILE).write_text(json.dumps(asdict(replace(own, job="x", born="1"))))
    with Lease(str(tmp_path), OPTIONS):
        assert held(tmp_path).job != "x"


def test_the_same_number_in_another_container_is_another_process(tmp_path: Path) -> None:
    with Lease(str(tmp_path), OPTIONS):
        own = held(tmp_path)
    assert own.is_here
    assert not replace(own, space="pid:[1]").is_here
    assert not replace(own, space="pid:[1]", born="1").is_gone


def test_one_that_is_renewed_elsewhere_is_refused(
    tmp_path: Path, other: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def renewed(_: float) -> None:
        (tmp_path / LEASE_FILE).write_text(json.dumps(asdict(replace(other, n_renewals=7))))

    found = Lease(str(tmp_path), OPTIONS)
    monkeypatch.setattr(found._stop, "wait", renewed)
    with pytest.raises(ConfigError, match="eve on elsewhere"):
        found.__enter__()
    assert held(tmp_path).n_renewals == 7


def test_one_that_stands_still_elsewhere_is_taken_over(
    tmp_path: Path, other: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    found = Lease(str(tmp_path), OPTIONS)
    with monkeypatch.context() as patch:
        patch.setattr(found._stop, "wait", waited.append)
        found._acquire()
    assert waited == [lease.WATCH_S, lease.SETTLE_S]
    assert held(tmp_path).job != other.job


def test_a_job_that_has_lost_it_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lease, "RENEW_S", 0.02)
    interrupted = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        with Lease(str(tmp_path), OPTIONS):
            first = held(tmp_path)
            while held(tmp_path).n_renewals < 2:
                pass
            stolen = replace(first, job="x", user="eve")
            while not interrupted.is_set():
                (tmp_path / LEASE_FILE).write_text(json.dumps(asdict(stolen)))
                interrupted.wait(0.01)
    finally:
        signal.signal(signal.SIGINT, before)
    assert held(tmp_path).user == "eve", "the lease of another one stays"
    assert "was taken over by eve" in caplog.text


def test_a_damaged_lease_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / LEASE_FILE).write_text("{")
    with Lease(str(tmp_path), OPTIONS):
        assert held(tmp_path).pid == os.getpid()
