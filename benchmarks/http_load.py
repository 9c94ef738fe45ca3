"""Load test of a running service; every answer is compared with the pipeline in this process.

    python -m benchmarks.http_load --url http://127.0.0.1:8000 [--requests 200] [--concurrency 32]

The files are synthetic, in four containers; an answer counts as equal only if every number in it
except the timings is that of the pipeline. Repeated files are answered from the service's feature
cache, so the number of different files is reported next to the rate. Only loopback addresses are
accepted. The result goes into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import ipaddress
import json
import statistics
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import soundfile as sf

from acoustic.example import example_waveform
from acoustic.pipeline import Pipeline, PipelineConfig
from benchmarks.document import markdown_table, write_section

COMMAND = "python -m benchmarks.http_load"
ROOT = Path(__file__).resolve().parent.parent
KINDS = ("WAV", "FLAC", "OGG", "MP3")
MAX_REQUESTS = 10_000


def make_files(n: int, duration_s: float = 60.0) -> list[bytes]:
    """Different sounds, encoded in the four containers in turn."""
    files = []
    for i in range(n):
        noise = np.random.default_rng(i).standard_normal(round(duration_s * 22_050)) * 0.05
        sound = io.BytesIO()
        sf.write(sound, example_waveform(duration_s) + noise, 22_050, format=KINDS[i % len(KINDS)])
        files.append(sound.getvalue())
    return files


def comparable(body: dict[str, Any]) -> dict[str, Any]:
    """The reply without the fields that may differ between two runs."""
    return {key: value for key, value in body.items() if key not in ("timings_ms", "cached")}


async def load(url: str, files: list[bytes], n: int, concurrency: int) -> list[tuple[float, Any]]:
    """(seconds, JSON reply) of each request; the reply is None if the status is not 200."""
    slots = asyncio.Semaphore(concurrency)
    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:

        async def post(i: int) -> tuple[float, Any]:
            async with slots:
                # Inside the slot: waiting for a free slot is not latency of the service.
                start_s = time.perf_counter()
                reply = await client.post("/v1/classify", content=files[i % len(files)])
                elapsed_s = time.perf_counter() - start_s
            return elapsed_s, reply.json() if reply.status_code == 200 else None

        return await asyncio.gather(*(post(i) for i in range(n)))


def main() -> None:
    """Measure, print, write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--files", type=int, default=200, help="number of different files")
    arguments = parser.parse_args()
    if not ipaddress.ip_address(urlsplit(arguments.url).hostname or "").is_loopback:
        parser.error("--url must be a loopback address, e.g. http://127.0.0.1:8000")
    n = min(arguments.requests, MAX_REQUESTS)
    files = make_files(min(arguments.files, n))
    start_s = time.perf_counter()
    answers = asyncio.run(load(arguments.url, files, n, arguments.concurrency))
    elapsed_s = time.perf_counter() - start_s
    pipeline = Pipeline.from_folder(ROOT / "models" / "default", PipelineConfig(with_digest=True))
    expected = [comparable(pipeline.classify(data).to_dict()) for data in files]
    n_failed = sum(body is None for _, body in answers)
    n_different = sum(
        body is not None and comparable(body) != expected[i % len(files)]
        for i, (_, body) in enumerate(answers)
    )
    latencies_ms = [seconds * 1e3 for seconds, _ in answers]
    document = {
        "benchmark": "http_load",
        "requests": n,
        "concurrency": arguments.concurrency,
        "different_files": len(files),
        "requests_per_s": round(n / elapsed_s, 1),
        "p50_ms": round(statistics.median(latencies_ms), 1),
        # quantiles(n=20) returns 19 cut points; the last is the 95th percentile.
        "p95_ms": round(statistics.quantiles(latencies_ms, n=20)[-1], 1),
        "failed": n_failed,
        "different_answers": n_different,
    }
    for name, value in document.items():
        print(f"{name:20}{value}")
    rows = [[name.replace("_", " "), str(value)] for name, value in document.items()]
    write_section("HTTP load", COMMAND, markdown_table(["what", "value"], rows[1:]))
    print(json.dumps(document))


if __name__ == "__main__":
    main()
