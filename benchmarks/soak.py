"""Whether anything grows while the service works for long.

    python -m benchmarks.soak [--minutes 60] [--large-every 200] [--plant]

Starts the service and sends what people send: good files, repeats, files that are none, a large one
now and then, clients that leave. Once in a while it sums over all processes of the service: memory,
open files, threads, shared memory, and the bytes of logs. It fails if one of them rises from the
second quarter of the run to the last by more than its limit. --plant starts a process beside the
service that leaks a little of everything, which the run has to notice. The result goes into
docs/reliability.md.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.chaos import PAGE
from benchmarks.document import markdown_table, write_section
from benchmarks.overload import mp3
from benchmarks.s3_server import free_port
from benchmarks.server_process import ServerProcess, running

COMMAND = "python -m benchmarks.soak"
MAX_MINUTES = 24 * 60.0
N_SAMPLES = 60
AT_A_TIME = 3
LARGE_BYTES = 12_000_000
LEAK = """
import os, threading, time
kept = []
while True:
    kept.append((bytearray(os.urandom(1 << 20)), open(os.devnull)))
    threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()
    time.sleep(0.5)
"""


@dataclass(frozen=True, slots=True)
class Limit:
    """How much a quantity may rise over the run.

    Attributes:
        share: of its median in the second quarter.
        absolute: beside that, in its unit.
    """

    share: float
    absolute: float


LIMITS = {
    "memory_mb": Limit(0.05, 60.0),
    "open_files": Limit(0.05, 15.0),
    "threads": Limit(0.05, 12.0),
    # the object store keeps the room of as many large files as were in it at a time
    "shared_memory_mb": Limit(0.05, (AT_A_TIME + 1) * LARGE_BYTES / 2**20),
    "log_bytes_per_request": Limit(0.5, 200.0),
}


def rises(series: Sequence[float], limit: Limit) -> tuple[float, float, bool]:
    """Medians of the second and the last quarter, and whether the rise is above the limit.

    The first quarter is left out: caches fill, pools grow to their size.

    Args:
        series: values in the order of time, at least four.
        limit: what may be.
    """
    quarter = len(series) // 4
    early = statistics.median(series[quarter : 2 * quarter])
    late = statistics.median(series[-quarter:])
    return early, late, late - early > limit.share * early + limit.absolute


def shared_files(pid: int) -> dict[int, int]:
    """Number of each file of a process in shared memory → its size there, bytes."""
    found = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            if os.readlink(link).startswith("/dev/shm/"):
                status = link.stat()
                found[status.st_ino] = 512 * status.st_blocks
    return found


def sample(server: ServerProcess, logs: Path, n_requests: int) -> dict[str, float]:
    """The quantities now."""
    open_files = threads = 0
    shared: dict[int, int] = {}
    for process in server.processes():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            open_files += process.num_fds()
            threads += process.num_threads()
            shared |= shared_files(process.pid)
    n_bytes = sum(path.stat().st_size for path in logs.rglob("*") if path.is_file())
    return {
        "memory_mb": server.pss_mb(),
        "open_files": float(open_files),
        "threads": float(threads),
        "shared_memory_mb": sum(shared.values()) / 2**20,
        "log_bytes": float(n_bytes),
        "n_requests": float(n_requests),
    }


class Mixed:
    """What people send.

    Args:
        url: address of the service.
        large_every: every how many files a large one is sent.
    """

    def __init__(self, url: str, large_every: int) -> None:
        self._large_every = large_every
        self._client = httpx.AsyncClient(base_url=url, timeout=60)
        self._good = mp3(10.0)
        self.seen: Counter[str] = Counter()

    async def run(self, seconds: float) -> None:
        """Send until the time is over, a few at a time."""
        until_s = time.monotonic() + seconds
        numbers = itertools.count()

        async def worker() -> None:
            while time.monotonic() < until_s:
                await self._one(next(numbers))

        await asyncio.gather(*(worker() for _ in range(AT_A_TIME)))
        await self._client.aclose()

    async def _one(self, number: int) -> None:
        body = self._good + os.urandom(16)
        if number % self._large_every == self._large_every - 1:
            body = bytes(LARGE_BYTES)
        elif number % 5 == 1:
            body = self._good  # a repeat
        elif number % 5 == 2:
            body = os.urandom(5_000)
        leaves = number % 20 == 3
        try:
            reply = await self._client.post(
                "/v1/classify", content=body, timeout=0.02 if leaves else 60
            )
            self.seen[str(reply.status_code)] += 1
        except httpx.HTTPError as error:
            self.seen["left" if leaves else type(error).__name__] += 1


async def watch(
    server: ServerProcess, logs: Path, minutes: float, large_every: int
) -> tuple[list[dict[str, float]], Counter[str]]:
    """Samples over the run, and what was sent."""
    load = Mixed(server.url, large_every)
    seconds = 60 * minutes
    work = asyncio.ensure_future(load.run(seconds))
    samples = []
    while not work.done():
        await asyncio.sleep(seconds / N_SAMPLES)
        n = sum(load.seen.values())
        samples.append(await asyncio.to_thread(sample, server, logs, n))
    await work
    return samples, load.seen


def series_of(samples: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """Quantity → its values; logs by the request, between two samples."""
    found = {
        name: [each[name] for each in samples] for name in LIMITS if name != "log_bytes_per_request"
    }
    found["log_bytes_per_request"] = [
        (b["log_bytes"] - a["log_bytes"]) / max(1.0, b["n_requests"] - a["n_requests"])
        for a, b in itertools.pairwise(samples)
    ]
    return found


def main() -> None:
    """Measure, print, write the section; exit code 1 if something grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--large-every", type=int, default=200)
    parser.add_argument("--plant", action="store_true")
    arguments = parser.parse_args()
    minutes, port = min(arguments.minutes, MAX_MINUTES), free_port()
    own = [sys.executable, "-m", "acousticsense", "serve", "--port", str(port)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running(own, f"http://127.0.0.1:{port}", folder / "log") as server:
            logs = Path("/tmp/ray/session_latest/logs")
            planted = None
            if arguments.plant:
                environment = {**os.environ, **server.mark}
                planted = subprocess.Popen([sys.executable, "-c", LEAK], env=environment)
            samples, seen = asyncio.run(watch(server, logs, minutes, arguments.large_every))
            if planted is not None:
                planted.kill()
                planted.wait()
    series = series_of(samples)
    verdicts = {name: rises(values, LIMITS[name]) for name, values in series.items()}
    growing = [name for name, (_, _, is_rising) in verdicts.items() if is_rising]
    rows = [
        [name.replace("_", " "), f"{early:.1f}", f"{late:.1f}", "rises" if is_rising else "steady"]
        for name, (early, late, is_rising) in verdicts.items()
    ]
    if not arguments.plant:
        write_section(
            "Soak", COMMAND,
            f"{minutes:g} minutes, {sum(seen.values()):,} requests ({dict(seen)}).\n\n"
            + markdown_table(["over all processes", "second quarter", "last quarter", ""], rows),
            path=PAGE,
        )  # fmt: skip
    print(
        json.dumps(
            {"benchmark": "soak", "minutes": minutes, "requests": dict(seen), "growing": growing,
             "verdicts": verdicts, "shared_memory_mb": series["shared_memory_mb"]}
        )
    )  # fmt: skip
    sys.exit(1 if growing else 0)


if __name__ == "__main__":
    main()
