"""CPU per request of the service and of other servers around the same library, side by side.

    make bench-peers          (installs the peers into an environment of their own)
    python -m benchmarks.http_peers --python PYTHON_OF_THE_PEERS [--rounds 3] [--only NAMES]

All servers run at once on loopback, each with its usual settings; bursts of different three-minute
MP3s (2.9 MB) go to one after another, so that drift affects all. CPU is of all processes of a
server. `repeat` sends the same file again. The result goes into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile as sf

from acoustic.example import example_waveform
from benchmarks.document import markdown_table, write_section
from benchmarks.s3_server import free_port
from benchmarks.server_process import ServerProcess, running

COMMAND = "make bench-peers"
ROOT = Path(__file__).resolve().parent.parent
BURSTS = {1: 8, 8: 24, 32: 48}
"""Requests at a time → requests of a burst."""

N_REPEATS = 12
IDLE_S = 12.0
OURS = {"ours": [], "ours, one process": ["--colocated"]}
PEERS = {
    "FastAPI": "benchmarks.peers.fastapi_app",
    "LitServe": "benchmarks.peers.litserve_app",
    "BentoML": "",
    "the guide, FastAPI": "benchmarks.peers.guide_app",
}
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1"}


@dataclass
class Cell:
    """One burst to one server.

    Attributes:
        cpu_ms: CPU ms per request, of all its processes.
        latencies_ms: of every request.
        seconds: how long the burst took.
        n_failed: replies that were not 200.
    """

    cpu_ms: float
    latencies_ms: list[float]
    seconds: float
    n_failed: int


def make_mp3() -> bytes:
    """Three minutes of stereo at 128 kbit/s."""
    rate = 44_100
    noise = np.random.default_rng(0).normal(0, 0.02, (180 * rate, 2)).astype(np.float32)
    file = io.BytesIO()
    samples = example_waveform(180.0, rate)[:, None] + noise
    with sf.SoundFile(
        file, "w", rate, 2, format="MP3", bitrate_mode="CONSTANT", compression_level=0.66
    ) as sound:
        sound.write(samples)
    return file.getvalue()


async def burst(url: str, bodies: list[bytes], concurrency: int) -> tuple[list[float], int]:
    """Send all bodies; latencies in ms and the number of failures."""
    slots = asyncio.Semaphore(concurrency)
    limits = httpx.Limits(max_connections=concurrency)
    latencies: list[float] = []
    n_failed = 0
    async with httpx.AsyncClient(
        base_url=url, timeout=180, limits=limits, trust_env=False
    ) as client:

        async def post(body: bytes) -> None:
            nonlocal n_failed
            async with slots:
                begun_s = time.perf_counter()
                reply = await client.post("/v1/classify", content=body)
                latencies.append((time.perf_counter() - begun_s) * 1e3)
            n_failed += reply.status_code != 200

        await asyncio.gather(*(post(body) for body in bodies))
    return latencies, n_failed


def run_burst(server: ServerProcess, bodies: list[bytes], concurrency: int) -> Cell:
    """Send a burst and measure the server's processes."""
    cpu_s, begun_s = server.cpu_s(), time.perf_counter()
    latencies, n_failed = asyncio.run(burst(server.url, bodies, concurrency))
    seconds = time.perf_counter() - begun_s
    cpu_ms = (server.cpu_s() - cpu_s) * 1e3 / len(bodies)
    return Cell(cpu_ms, latencies, seconds, n_failed)


def command(name: str, port: int, peers_python: str) -> list[str]:
    """What starts a server."""
    if name in OURS:
        own = [sys.executable, "-m", "acousticsense", "serve", "--port", str(port)]
        return [*own, *OURS[name]]
    if name == "BentoML":
        bentoml = str(Path(peers_python).with_name("bentoml"))
        target = "benchmarks.peers.bentoml_app:Service"
        return [bentoml, "serve", target, "--host", "127.0.0.1", "--port", str(port)]
    return [peers_python, "-m", PEERS[name], "--port", str(port)]


def measure(servers: dict[str, ServerProcess], rounds: int) -> dict[str, dict[str, list[Cell]]]:
    """Server → kind of burst → its cells."""
    song = make_mp3()

    def different(n: int) -> list[bytes]:
        return [song + os.urandom(16) for _ in range(n)]

    found: dict[str, dict[str, list[Cell]]] = {name: {} for name in servers}
    for server in servers.values():
        run_burst(server, different(4), 2)
    for _ in range(rounds):
        for concurrency, n in BURSTS.items():
            for name, server in servers.items():
                n_sent = max(concurrency, n // 6) if name.startswith("the guide") else n
                cell = run_burst(server, different(n_sent), concurrency)
                found[name].setdefault(str(concurrency), []).append(cell)
        for name, server in servers.items():
            run_burst(server, [song] * 2, 1)
            cell = run_burst(server, [song] * N_REPEATS, 1)
            found[name].setdefault("repeat", []).append(cell)
    return found


def idle_cores(servers: dict[str, ServerProcess]) -> dict[str, float]:
    """Cores that each server uses while nobody asks."""
    time.sleep(IDLE_S / 2)
    before = {name: server.cpu_s() for name, server in servers.items()}
    time.sleep(IDLE_S)
    return {
        name: round((server.cpu_s() - before[name]) / IDLE_S, 3) for name, server in servers.items()
    }


def summary(cells: list[Cell]) -> dict[str, Any]:
    """Medians over the bursts, latencies over all requests."""
    latencies = [each for cell in cells for each in cell.latencies_ms]
    rates = [len(cell.latencies_ms) / cell.seconds for cell in cells]
    return {
        "cpu_ms": round(statistics.median(cell.cpu_ms for cell in cells), 1),
        "per_s": round(statistics.median(rates), 1),
        "p50_ms": round(float(np.quantile(latencies, 0.5))),
        "p95_ms": round(float(np.quantile(latencies, 0.95))),
        "failed": sum(cell.n_failed for cell in cells),
    }


def main() -> None:
    """Measure, print, write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default="", help="interpreter with the peers installed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="names, separated by semicolons")
    arguments = parser.parse_args()
    names = [*OURS, *(PEERS if arguments.python else ())]
    if arguments.only:
        names = [name for name in names if name in arguments.only.split(";")]
    ready: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers: dict[str, ServerProcess] = {}
        for name in names:
            port = free_port()
            servers[name] = stack.enter_context(
                running(
                    command(name, port, arguments.python), f"http://127.0.0.1:{port}",
                    Path(folder) / f"{len(servers)}.log", environment=ENVIRONMENT,
                )
            )  # fmt: skip
            server = servers[name]
            ready[name] = {
                "seconds": round(server.ready_s, 1),
                "cpu_s": round(server.ready_cpu_s, 1),
                "pss_mb": round(server.pss_mb()),
            }
            print(name, "ready", ready[name], file=sys.stderr, flush=True)
        idle = idle_cores(servers)
        cells = measure(servers, arguments.rounds)
        end_mb = {name: round(server.pss_mb()) for name, server in servers.items()}
    results = {
        name: {kind: summary(each) for kind, each in kinds.items()} for name, kinds in cells.items()
    }
    write_section("HTTP against other servers", COMMAND, _page(results, ready, end_mb, idle))
    document = {
        "benchmark": "http_peers", "rounds": arguments.rounds, "ready": ready, "end_mb": end_mb,
        "idle_cores": idle, "results": results,
    }  # fmt: skip
    print(json.dumps(document))


def _page(
    results: dict[str, dict[str, dict[str, Any]]],
    ready: dict[str, dict[str, float]],
    end_mb: dict[str, int],
    idle: dict[str, float],
) -> str:
    kinds = [*(str(n) for n in BURSTS), "repeat"]
    rows = [
        [
            name,
            *(f"{each[kind]['cpu_ms']:.0f}" for kind in kinds),
            " / ".join(f"{each[str(n)]['per_s']:.1f}" for n in BURSTS),
            " / ".join(f"{each[str(n)]['p50_ms']}" for n in BURSTS),
            " / ".join(f"{each[str(n)]['p95_ms']}" for n in BURSTS),
            f"{idle[name]:.2f}",
            f"{ready[name]['cpu_s']:.0f} ({ready[name]['seconds']:.0f})",
            f"{ready[name]['pss_mb']} → {end_mb[name]}",
            str(sum(each[kind]["failed"] for kind in kinds)),
        ]
        for name, each in results.items()
    ]
    at_a_time = " / ".join(map(str, BURSTS))
    header = [
        "server", *(f"CPU ms, {n} at a time" for n in BURSTS), "CPU ms, repeat",
        f"requests/s, {at_a_time}", "p50 ms", "p95 ms", "idle cores",
        "CPU s (s) to ready", "PSS MiB", "errors",
    ]  # fmt: skip
    note = (
        "Three-minute MP3s of 2.9 MB, effort balanced. CPU ms are per request, with what the idle "
        "processes of a server take meanwhile.\n\n"
    )
    return note + markdown_table(header, rows)


if __name__ == "__main__":
    main()
