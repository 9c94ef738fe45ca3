"""What callers notice while replicas die, a model is replaced, or other clients misbehave.

    python -m benchmarks.chaos [--minutes 3] [--share 0.4] [--only kills,rollout,headers]

Starts the service, measures its capacity, and sends small files at a share of it while something
happens to the service:

    kills     kill -9 of a replica of each stage in turn, every 5 s
    proxy, controller   kill -9 of HAProxy, or of Serve's controller, once
    rollout   another checkpoint is deployed
    headers, stalls, large   see `benchmarks.attacks`

Every answer is checked: its model and settings must be one of the known pairs. Only loopback; time,
connections and bytes are bounded. The result goes into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from acoustic.pipeline import write_golden
from benchmarks.attacks import ATTACKS
from benchmarks.document import markdown_table, write_section
from benchmarks.overload import Load
from benchmarks.s3_server import free_port
from benchmarks.server_process import ServerProcess, running
from benchmarks.steady_load import Honest
from deployments.built_in import SERVE_CONFIG, built_in

COMMAND = "python -m benchmarks.chaos"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "reliability.md"
PARTS = {"proxy": "haproxy.cfg", "controller": "ServeController"}
"""Kind → a word of the command line of what is killed."""

KINDS = ("kills", "rollout", *PARTS, *ATTACKS)
STAGES = ("Preprocess", "Classify", "Postprocess", "Ingress")
KILL_EVERY_S = 5.0
MAX_MINUTES = 60.0
QUIET_S = 15.0
MAX_ATTACK_S = 60.0
AFTER_A_PART_S = 30.0


async def kill_replicas(server: ServerProcess, seconds: float) -> None:
    """One replica of each stage in turn."""
    until_s = time.monotonic() + seconds
    for stage in itertools.cycle(STAGES):
        if time.monotonic() > until_s:
            return
        found = [p for p in server.processes() if _title(p).endswith(f":{stage}")]
        if found:
            with suppress(ProcessLookupError):
                os.kill(found[-1].pid, signal.SIGKILL)
        await asyncio.sleep(KILL_EVERY_S)


async def kill_part(server: ServerProcess, word: str) -> None:
    """All processes of the service with that word in their command line, and what follows."""
    await asyncio.sleep(2)
    for process in server.processes():
        if word in _title(process):
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
    await asyncio.sleep(AFTER_A_PART_S)


def _title(process: Any) -> str:
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:  # it has ended
        return ""


async def until_ready(url: str) -> float:
    """Seconds until the service is ready."""
    begun_s = time.monotonic()
    async with httpx.AsyncClient(base_url=url) as client:
        while True:
            with suppress(httpx.HTTPError):
                if (await client.get("/readyz")).status_code == 200:
                    return time.monotonic() - begun_s
            await asyncio.sleep(0.2)


async def replace_model(server: ServerProcess, folder: Path, port: int) -> None:
    """Deploy a checkpoint with another version, and wait until only it answers."""
    checkpoint = folder / "new"
    shutil.copytree(built_in("models/default"), checkpoint)
    manifest = json.loads((checkpoint / "config.json").read_text())
    manifest["version"] = "rollout"
    (checkpoint / "config.json").write_text(json.dumps(manifest))
    for name in ("calibration.json", "neighbours.safetensors", "golden.safetensors"):
        (checkpoint / name).unlink()  # of the other digest
    write_golden(checkpoint)
    settings = yaml.safe_load(built_in("configs/default.yaml").read_text())
    (folder / "settings.yaml").write_text(yaml.safe_dump({**settings, "checkpoint": "new"}))
    content = yaml.safe_load(built_in(SERVE_CONFIG).read_text())
    content["http_options"]["port"] = port
    content["applications"][0]["args"]["config"] = str(folder / "settings.yaml")
    file = folder / "rollout.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    address = _dashboard(server)
    command = [sys.executable, "-m", "ray.serve.scripts", "deploy", str(file), "-a", address]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "RAY_AUTH_MODE": "token"},
    )
    _, said = await process.communicate()
    if process.returncode:
        raise RuntimeError(said.decode()[-1000:])
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        deadline_s, n_new = time.monotonic() + 120, 0
        while n_new < 20 and time.monotonic() < deadline_s:
            await asyncio.sleep(0.5)
            with suppress(httpx.HTTPError):
                models = (await client.get("/v1/models")).json().get("models", [{}])
                n_new = n_new + 1 if models[0].get("version") == "rollout" else 0
    await asyncio.sleep(5)


def _dashboard(server: ServerProcess) -> str:
    """Address of the dashboard that belongs to the server."""
    for process in server.processes():
        for word in process.cmdline():
            if word.startswith("--port=") and "dashboard" in _title(process):
                return f"http://127.0.0.1:{word.partition('=')[2]}"
    return "http://127.0.0.1:8265"


async def attack(kind: str, port: int, seconds: float) -> dict[str, int]:
    """Run an attack in a process of its own, so that it does not slow the honest client."""
    command = [sys.executable, "-m", "benchmarks.attacks", kind, str(port), str(seconds)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    said, _ = await process.communicate()
    found: dict[str, int] = json.loads(said)
    return found


async def measure(
    server: ServerProcess,
    port: int,
    folder: Path,
    kinds: Sequence[str],
    minutes: float,
    share: float,
) -> dict[str, Any]:
    """One row per kind, after a quiet one."""
    load = Load(server.url)
    await load.closed(8, 5)
    capacity = await load.closed(16, 10)
    honest = Honest(server.url, share * capacity)
    rows: dict[str, Any] = {}
    found: dict[str, Any] = {"capacity_per_s": round(capacity, 1), "share": share, "rows": rows}
    seconds = 60 * minutes
    others: dict[str, Any] = {}

    def killing(word: str) -> Callable[[], Awaitable[None]]:
        return lambda: kill_part(server, word)

    def attacking(kind: str) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            others[kind] = await attack(kind, port, min(seconds, MAX_ATTACK_S))

        return run

    events: dict[str, Callable[[], Awaitable[None]]] = {
        "quiet": lambda: asyncio.sleep(QUIET_S),
        **{kind: attacking(kind) for kind in ATTACKS},
        "kills": lambda: kill_replicas(server, seconds),
        **{kind: killing(word) for kind, word in PARTS.items()},
        "rollout": lambda: replace_model(server, folder, port),
    }
    for kind in ("quiet", *(each for each in events if each in kinds)):
        base_mb, peak = server.pss_mb(), _Peak(server)
        async with peak:
            seen = await honest.during(events[kind])
        ready_s = await until_ready(server.url)
        rows[kind] = {
            **seen.row(),
            "ready_after_s": round(ready_s, 1),
            "growth_mb": round(peak.mb - base_mb),
            **({"others": others[kind]} if kind in others else {}),
        }
        print(kind, json.dumps(rows[kind]), file=sys.stderr, flush=True)
        await asyncio.sleep(5)
    await honest.close()
    return found


class _Peak:
    """Largest memory of the server while the context lasts, MiB."""

    def __init__(self, server: ServerProcess) -> None:
        self._server, self.mb = server, 0.0

    async def _watch(self) -> None:
        while True:
            self.mb = max(self.mb, await asyncio.to_thread(self._server.pss_mb))
            await asyncio.sleep(2)

    async def __aenter__(self) -> None:
        self._task = asyncio.ensure_future(self._watch())

    async def __aexit__(self, *exception: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


HEADER = [
    "while", "sent", "answered", "refused", "failed", "p50, s", "p99, s", "longest, s",
    "longest silence, s", "models", "ready after, s", "growth, MiB",
]  # fmt: skip
TITLES = {
    "kills": "Replicas die",
    "proxy": "The proxy dies",
    "controller": "The controller dies",
    "rollout": "A model is replaced",
    "headers": "Headers that never end",
    "stalls": "Uploads that stand still",
    "large": "Many large uploads",
}


def write_rows(found: dict[str, Any], minutes: float) -> None:
    """A section for each kind, with the quiet row of the same run beside it.

    Args:
        found: as from `measure`.
        minutes: how long replicas were killed.
    """
    alone = "overload alone" if found["share"] > 1 else "quiet"
    rows = {
        kind: [
            alone if kind == "quiet" else kind,
            *(str(value or 0) for key, value in row.items() if key != "others"),
        ]
        for kind, row in found["rows"].items()
    }
    load = f"{found['share']:.0%} of a capacity of {found['capacity_per_s']} requests/s"
    for kind, row in rows.items():
        if kind == "quiet":
            continue
        more = f", {minutes:g} minutes" if kind == "kills" else ""
        others = found["rows"][kind].get("others")
        fate = f" What became of the attack: {json.dumps(others)}." if others else ""
        body = f"{load}{more}.{fate}\n\n{markdown_table(HEADER, [rows['quiet'], row])}"
        title, command = TITLES[kind], f"{COMMAND} --only {kind}"
        if found["share"] > 1:
            title, command = f"{title} under overload", f"{command} --share {found['share']:g}"
        write_section(title, command, body, path=PAGE)


def main() -> None:
    """Measure, print, write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--share", type=float, default=0.4, help="of the capacity")
    parser.add_argument("--only", default=",".join(KINDS))
    arguments = parser.parse_args()
    kinds = arguments.only.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"unknown kinds {unknown}")
    minutes, port = min(arguments.minutes, MAX_MINUTES), free_port()
    own = [sys.executable, "-m", "acousticsense", "serve", "--port", str(port)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running(own, f"http://127.0.0.1:{port}", folder / "log") as server:
            found = asyncio.run(measure(server, port, folder, kinds, minutes, arguments.share))
    write_rows(found, minutes)
    print(json.dumps({"benchmark": "chaos", "minutes": minutes, **found}))


if __name__ == "__main__":
    main()
