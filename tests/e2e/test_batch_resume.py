"""A batch job killed with SIGKILL resumes: no file lost or repeated, no finished file read again.

The job is the real command in its own process group, with its own local Ray; the songs are on a
real S3 server, behind a proxy that counts reads.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyarrow.parquet
import pytest

from benchmarks.s3_server import BUCKET, KEY, SECRET, FaultProxy, S3Server
from tests.e2e.conftest import ROOT, TEST_ENVIRONMENT
from tests.support.sounds import encode, noise

N_SONGS = 48
CHUNK = 4
TIMEOUT_S = 240.0
DRIVER_ALONE = 6  # parts after which only the driver is killed


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    folder = server.bucket / "in"
    folder.mkdir()
    for i in range(N_SONGS):
        content = b"junk" if i % 20 == 7 else encode(noise(7.0, seed=i), 22_050, "flac")
        (folder / f"{i:02}.flac").write_bytes(content)
    yield server
    server.close()


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultProxy]:
    found = FaultProxy(s3)
    yield found
    found.close()


class Job:
    """The batch command as a process in its own session."""

    def __init__(self, proxy: FaultProxy, checkpoint: Path, out: str, *more: str) -> None:
        command = [
            sys.executable, "-m", "acousticsense", "batch", f"s3://{BUCKET}/in",
            "--out", f"s3://{BUCKET}/{out}", "--endpoint", proxy.endpoint, "--region", "us-east-1",
            "--model", str(checkpoint), "--chunk", str(CHUNK), "--concurrency", "1",
            "--progress", "quiet", *more,
        ]  # fmt: skip
        environment = {
            **os.environ, **TEST_ENVIRONMENT,
            "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
        }  # fmt: skip
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip

    def children(self, name: str) -> list[psutil.Process]:
        """Processes of this job whose command line or title contains a name."""
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    if name in " ".join(child.cmdline()):
                        found.append(child)
        return found

    def kill(self) -> None:
        """SIGKILL to the driver and every process it has started, as when a machine loses power."""
        everything = self.children("")
        self.process.send_signal(signal.SIGKILL)
        for child in everything:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(everything, timeout=30)
        self.finish()

    def kill_driver(self) -> None:
        """SIGKILL to the driver alone; what it has started must end by itself."""
        everything = self.children("")
        self.process.send_signal(signal.SIGKILL)
        _, left = psutil.wait_procs(everything, timeout=TIMEOUT_S)
        assert not left, [each.cmdline() for each in left]
        self.finish()

    def close(self) -> None:
        """End the job if it still runs, whatever state a failed test has left it in."""
        if self.process.poll() is None:
            self.kill()

    def finish(self) -> str:
        output, _ = self.process.communicate(timeout=TIMEOUT_S)
        return str(output)


StartJob = Callable[..., Job]


@pytest.fixture
def start_job(proxy: FaultProxy, tiny_checkpoint: Path) -> Iterator[StartJob]:
    """Starts jobs that end with the test, even if it fails."""
    with contextlib.ExitStack() as jobs:

        def start(out: str, *more: str) -> Job:
            job = Job(proxy, tiny_checkpoint, out, *more)
            jobs.callback(job.close)
            return job

        yield start


def wait_for(condition: object, job: Job) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    pause = threading.Event()
    while not condition():  # type: ignore[operator]
        assert job.process.poll() is None, job.finish()
        assert time.monotonic() < deadline_s
        pause.wait(0.01)


def ids_of(folder: Path) -> list[str]:
    tables = [pyarrow.parquet.read_table(path) for path in folder.glob("part-*.parquet")]
    return [text for table in tables for text in table["uri"].to_pylist()]


@pytest.mark.parametrize("n_parts", [1, 6, 11])
def test_killed_and_resumed_nothing_is_lost_repeated_or_read_again(
    proxy: FaultProxy, s3: S3Server, start_job: StartJob, n_parts: int
) -> None:
    """Killed after about 10, 50 and 90 % of the twelve parts."""
    out = f"out-{n_parts}"
    folder = s3.bucket / out
    job = start_job(out)
    wait_for(lambda: len(list(folder.glob("part-*.parquet"))) >= n_parts, job)
    if n_parts == DRIVER_ALONE:
        job.kill_driver()
    else:
        job.kill()
    finished = ids_of(folder)
    assert len(finished) >= n_parts * CHUNK
    proxy.forget()
    again = start_job(out, "--resume")
    output = again.finish()
    assert again.process.returncode == 0, output
    assert f"{N_SONGS} files listed, {len(finished)} finished before" in output
    everything = ids_of(folder)
    assert len(everything) == len(set(everything)) == N_SONGS
    read = {f"s3:/{path}" for path in proxy.gets() if path.startswith(f"/{BUCKET}/in/")}
    assert not read & set(finished)
    assert read == set(everything) - set(finished)


def test_killed_inside_the_commit_window_a_part_is_there_whole_or_not_at_all(
    proxy: FaultProxy, s3: S3Server, start_job: StartJob
) -> None:
    """The store has the part, but its answer never arrives: the job is killed while it waits."""
    folder = s3.bucket / "out-window"
    stuck = threading.Event()

    def fault(method: str, path: str, count: int) -> str:
        is_part = method == "PUT" and "/part-" in path
        if is_part and len(list(folder.glob("part-*.parquet"))) >= 3:
            stuck.set()
            return "hang after"
        return ""

    proxy.fault = fault
    job = start_job("out-window")
    wait_for(stuck.is_set, job)
    wait_for(lambda: len(list(folder.glob("part-*.parquet"))) >= 4, job)
    job.kill()
    proxy.fault = lambda method, path, count: ""
    again = start_job("out-window", "--resume")
    output = again.finish()
    assert again.process.returncode == 0, output
    everything = ids_of(folder)
    assert len(everything) == len(set(everything)) == N_SONGS


def test_a_killed_worker_costs_nothing(
    proxy: FaultProxy, s3: S3Server, start_job: StartJob
) -> None:
    folder = s3.bucket / "out-worker"
    killed = threading.Event()

    def fault(method: str, path: str, count: int) -> str:
        """The second half of the songs waits, so that no stage has ended and lost its workers."""
        name = path.rpartition("/")[2].removesuffix(".flac")
        if method == "GET" and name.isdigit() and int(name) >= N_SONGS // 2:
            killed.wait(TIMEOUT_S)
        return ""

    proxy.fault = fault
    job = start_job("out-worker")

    def actors() -> list[psutil.Process]:
        workers = job.children("ray::MapWorker")
        return [each for each in workers if each.cmdline()[0].startswith("ray::")]

    wait_for(lambda: len(list(folder.glob("part-*.parquet"))) >= 2, job)
    wait_for(lambda: len(actors()) == 2, job)
    for actor in actors():
        actor.kill()
    killed.set()
    output = job.finish()
    assert job.process.returncode == 0, output
    everything = ids_of(folder)
    assert len(everything) == len(set(everything)) == N_SONGS


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(
    proxy: FaultProxy, s3: S3Server, start_job: StartJob
) -> None:
    folder = s3.bucket / "out-stop"

    def fault(method: str, path: str, count: int) -> str:
        """The second half of the songs never arrives, so the job is still running when stopped."""
        name = path.rpartition("/")[2].removesuffix(".flac")
        return "hang" if method == "GET" and name.isdigit() and int(name) >= N_SONGS // 2 else ""

    proxy.fault = fault
    job = start_job("out-stop")
    wait_for(lambda: len(list(folder.glob("part-*.parquet"))) >= 2, job)
    children = job.children("")
    job.process.send_signal(signal.SIGINT)
    output = job.finish()
    assert job.process.returncode == 130, output
    assert "rerun with --resume to continue" in output
    assert "Traceback" not in output
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
