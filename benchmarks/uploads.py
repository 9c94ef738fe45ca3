"""Memory of the service while and after large uploads.

    python -m benchmarks.uploads [--mib 45] [--at-once 16]

Starts the service, sends WAV files of that size at once, and reads the memory of all its processes
(what several share counts once) before, at most, and 10 s after the last reply. The result goes
into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile as sf

from benchmarks.document import markdown_table, write_section
from benchmarks.s3_server import free_port
from benchmarks.server_process import ServerProcess, running

COMMAND = "python -m benchmarks.uploads"
MIB = 1 << 20
MAX_AT_ONCE, MAX_MIB = 32, 47
SETTLE_S = 10.0


def make_wav(n_bytes: int) -> bytes:
    """Stereo noise of 16 bits."""
    n = n_bytes // 4
    noise = np.random.default_rng(0).integers(-3000, 3000, (n, 2)).astype(np.int16)
    file = io.BytesIO()
    sf.write(file, noise, 44_100, format="WAV", subtype="PCM_16")
    return file.getvalue()


class Peak:
    """The most memory of a server while the context lasts, MiB."""

    def __init__(self, server: ServerProcess) -> None:
        self._server, self._stop = server, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.mb = 0.0

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            self.mb = max(self.mb, self._server.pss_mb())

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()


async def send(url: str, body: bytes, n: int) -> list[int]:
    """Status of n uploads of different content at once."""
    async with httpx.AsyncClient(timeout=120, trust_env=False) as client:
        replies = await asyncio.gather(
            *(client.post(url, content=body + os.urandom(16)) for _ in range(n))
        )
    return [reply.status_code for reply in replies]


def measure(server: ServerProcess, body: bytes, at_once: tuple[int, ...]) -> list[dict[str, Any]]:
    """Growth of the memory over what it was after a first small request."""
    url = f"{server.url}/v1/classify?effort=fast"
    asyncio.run(send(url, make_wav(MIB), 2))
    base_mb = server.pss_mb()
    found = []
    for n in at_once:
        begun_s = time.perf_counter()
        with Peak(server) as peak:
            statuses = asyncio.run(send(url, body, n))
        seconds = time.perf_counter() - begun_s
        time.sleep(SETTLE_S)
        found.append(
            {
                "at_once": n,
                "seconds": round(seconds, 1),
                "peak_growth_mb": round(peak.mb - base_mb),
                "growth_later_mb": round(server.pss_mb() - base_mb),
                "answered": statuses.count(200),
                "refused": statuses.count(429),
                "other": n - statuses.count(200) - statuses.count(429),
            }
        )
    return found


def main() -> None:
    """Measure, print, write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=45)
    parser.add_argument("--at-once", type=int, default=16)
    arguments = parser.parse_args()
    n, mib = min(arguments.at_once, MAX_AT_ONCE), min(arguments.mib, MAX_MIB)
    port = free_port()
    own = [sys.executable, "-m", "acousticsense", "serve", "--port", str(port)]
    with (
        tempfile.TemporaryDirectory() as folder,
        running(own, f"http://127.0.0.1:{port}", Path(folder) / "log") as server,
    ):
        rows = measure(server, make_wav(mib * MIB), (1, 4, n))
    header = ["uploads at once", "s", "growth at most, MiB", "growth 10 s later, MiB", "answered",
              "refused", "other"]  # fmt: skip
    table = markdown_table(header, [[str(value) for value in row.values()] for row in rows])
    write_section("Large uploads", COMMAND, f"WAV files of {mib} MiB, effort fast.\n\n{table}")
    print(json.dumps({"benchmark": "uploads", "mib": mib, "results": rows}))


if __name__ == "__main__":
    main()
