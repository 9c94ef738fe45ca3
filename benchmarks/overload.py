"""Offered load above capacity: what is answered, what is refused, and how long both take.

    python -m benchmarks.overload [--seconds 15] [--url http://127.0.0.1:8000]

First the capacity of the service (started here unless --url names a running one), with 32 requests
at a time; then as many requests a second as 1.5 and 5 times that, whether or not earlier ones were
answered. Every file is a different one of 10 s to the service (MP3 with other bytes behind it), so
that nothing comes from its cache. Goodput counts answers inside the period of sending. The client
runs on the same machine and takes some of its cores. Only loopback addresses are accepted. The
result goes into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import re
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import soundfile as sf

from acoustic.example import example_waveform
from benchmarks.document import markdown_table, write_section
from benchmarks.s3_server import free_port
from benchmarks.server_process import running

COMMAND = "python -m benchmarks.overload"
FACTORS = (1.5, 5.0)
MAX_REQUESTS = 20_000
PATH = "/v1/classify"
N_RANDOM = 16
"""Bytes behind the file, which make it a different one."""

TIMEOUT_S = 120.0
REFUSED, RETRY_S = "429", 1.0


class Load:
    """Sends files and notes what came back.

    Each request has a connection of its own, as from many callers, and as little Python as
    possible: the client has to stay cheap beside the service.

    Args:
        url: of the service.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._file = mp3(10.0)
        self._head = (
            f"POST {PATH} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n"
            f"Content-Length: {len(self._file) + N_RANDOM}\r\n\r\n"
        ).encode()
        self.done: list[tuple[str, float, float]] = []

    async def one(self) -> str:
        """Send one file; note status, seconds taken, and when it ended. The status."""
        begun_s = time.perf_counter()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status = await self._status()
        except (OSError, TimeoutError, EOFError) as error:
            status = type(error).__name__
        now_s = time.perf_counter()
        self.done.append((status, now_s - begun_s, now_s))
        return status

    async def _status(self) -> str:
        reader, writer = await asyncio.open_connection(*self._address)
        try:
            writer.writelines([self._head, self._file, os.urandom(N_RANDOM)])
            head = await reader.readuntil(b"\r\n\r\n")  # it may come before all has been sent
            if match := re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE):
                await reader.readexactly(int(match[1]))
            return head.split(b" ", 2)[1].decode()
        finally:
            writer.transport.abort()

    async def closed(self, concurrency: int, seconds: float) -> float:
        """Number of answers per second with `concurrency` requests at a time."""
        until_s = time.perf_counter() + seconds
        self.done.clear()

        async def worker() -> None:
            while time.perf_counter() < until_s:
                if await self.one() == REFUSED:  # as clients do: else they only ask
                    await asyncio.sleep(RETRY_S)

        await asyncio.gather(*(worker() for _ in range(concurrency)))
        return sum(status == "200" for status, _, _ in self.done) / seconds

    async def open(self, rate: float, seconds: float) -> dict[str, Any]:
        """Send at a rate, and wait for all replies."""
        n = min(round(rate * seconds), MAX_REQUESTS)
        self.done.clear()
        begun_s = time.perf_counter()
        tasks = []
        for i in range(n):
            await asyncio.sleep(max(0.0, begun_s + i / rate - time.perf_counter()))
            tasks.append(asyncio.create_task(self.one()))
        end_s = time.perf_counter()
        await asyncio.gather(*tasks)
        counts = Counter(status for status, _, _ in self.done)
        answered = [took for status, took, _ in self.done if status == "200"]
        refused = [took for status, took, _ in self.done if status == REFUSED]
        inside = sum(status == "200" and at <= end_s for status, _, at in self.done)
        return {
            "offered_per_s": round(n / (end_s - begun_s), 1),
            "goodput_per_s": round(inside / (end_s - begun_s), 1),
            "refused": round(counts[REFUSED] / n, 3),
            "refused_s": _quantiles(refused),
            "answered_s": _quantiles(answered),
            "other": {k: v for k, v in counts.items() if k not in ("200", REFUSED)},
        }


def _quantiles(values: list[float]) -> list[float]:
    return [round(float(np.quantile(values, q)), 3) for q in (0.5, 0.99)] if values else []


def mp3(seconds: float) -> bytes:
    """The example's music as an MP3."""
    file = io.BytesIO()
    sf.write(file, example_waveform(seconds, 44_100), 44_100, format="MP3")
    return file.getvalue()


async def measure(url: str, seconds: float) -> dict[str, Any]:
    """Capacity, then every factor of it."""
    load = Load(url)
    await load.closed(32, seconds / 3)  # warm
    capacity = await load.closed(32, seconds)
    found: dict[str, Any] = {"capacity_per_s": round(capacity, 1), "factors": {}}
    for factor in FACTORS:
        found["factors"][str(factor)] = await load.open(factor * capacity, seconds)
        await asyncio.sleep(2)
    return found


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="")
    parser.add_argument("--seconds", type=float, default=15.0)
    arguments = parser.parse_args()
    local = ("127.0.0.1", "localhost", "::1")
    if arguments.url and urlsplit(arguments.url).hostname not in local:
        parser.error("only loopback addresses: this is a load test")
    if not 1 <= arguments.seconds <= 120:
        parser.error("seconds are 1 to 120")
    with ExitStack() as stack:
        url = arguments.url
        if not url:
            url = f"http://127.0.0.1:{free_port()}"
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            own = [sys.executable, "-m", "acousticsense", "serve", "--port", url.split(":")[-1]]
            stack.enter_context(running(own, url, Path(folder) / "log"))
        with suppress(PermissionError):  # else the service leaves the client no time to ask
            os.nice(-10)
        report = asyncio.run(measure(url, arguments.seconds))
    capacity = report["capacity_per_s"]
    rows = [
        [
            f"{factor} ×",
            f"{each['offered_per_s']:.0f}/s",
            f"{each['goodput_per_s']:.1f}/s ({each['goodput_per_s'] / capacity:.2f})",
            f"{each['refused']:.0%}",
            " / ".join(f"{value:.2f}" for value in each["refused_s"]),
            " / ".join(f"{value:.1f}" for value in each["answered_s"]),
            str(sum(each["other"].values())),
        ]
        for factor, each in report["factors"].items()
    ]
    header = [
        "offered", "requests", "answered (of capacity)", "refused", "refusal p50 / p99, s",
        "answer p50 / p99, s", "errors",
    ]  # fmt: skip
    body = f"Capacity with 32 at a time: {capacity:.1f} requests/s.\n\n"
    write_section("Overload", COMMAND, body + markdown_table(header, rows))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
