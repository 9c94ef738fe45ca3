"""Draws the dashboards as pictures, from a live service under load.

    python -m benchmarks.dashboards MUSIC [--minutes 4]

Starts the service and a Prometheus (its binary must be on the PATH) on free ports of this machine,
sends recordings of the folder MUSIC at changing rates and efforts, including broken and repeated
files, and draws every panel of configs/grafana/panels.yaml from the series in Prometheus.
Writes docs/dashboards/*.png.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import matplotlib
import numpy as np
import yaml

from benchmarks.s3_server import free_port
from deployments.rendering.dashboards import Panel, load_panels

matplotlib.use("Agg")
import matplotlib.dates
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "dashboards"
RATE_INTERVAL = "20s"
SCRAPE_S, STEP_S = 2, 3
RATES = (4.0, 10.0, 4.0, 14.0)
"""Requests per second; each rate is used for an equal part of the run, in this order."""

EFFORTS = ("balanced", "balanced", "fast", "thorough")
BROKEN_EVERY, REPEATED_EVERY = 12, 5
UNITS = {"reqps": "1/s", "percentunit": "share", "percent": "%", "short": "", "bytes": "bytes"}


def main() -> None:
    """Run, draw, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("music", type=Path)
    parser.add_argument("--minutes", type=float, default=4.0)
    arguments = parser.parse_args()
    if shutil.which("prometheus") is None:
        raise SystemExit("prometheus is not on the PATH; install its binary first")
    with tempfile.TemporaryDirectory(prefix="as-") as folder:
        service_port = free_port()
        service = _start_service(Path(folder), service_port)
        prometheus, port = _start_prometheus(Path(folder))
        try:
            _wait(f"http://127.0.0.1:{service_port}/readyz")
            _wait(f"http://127.0.0.1:{port}/-/ready")
            begun_s = time.time()
            outcomes = _load(service_port, arguments.music, arguments.minutes * 60)
            # Two more scrapes, so that the last requests are in the series.
            time.sleep(2 * SCRAPE_S)
            drawn = _draw_all(port, begun_s)
        finally:
            for process in (service, prometheus):
                process.send_signal(signal.SIGINT)
                process.wait(90)
    print(json.dumps({"outcomes": outcomes, "panels_with_data": drawn}))


def _start_service(folder: Path, port: int) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ, "RAY_TMPDIR": str(folder), "RAY_metrics_report_interval_ms": "2000",
        "RAY_memory_monitor_refresh_ms": "0",
    }  # fmt: skip
    command = [sys.executable, "-m", "acousticsense", "serve", "--port", str(port)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=sys.stderr, start_new_session=True
    )


def _start_prometheus(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    port = free_port()
    targets = folder / "ray" / "prom_metrics_service_discovery.json"
    config = {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "scrape_timeout": f"{SCRAPE_S}s"},
        "scrape_configs": [
            {
                "job_name": "ray",
                "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "2s"}],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [
        "prometheus", f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=sys.stderr), port


def _wait(url: str) -> None:
    deadline_s = time.monotonic() + 300
    while time.monotonic() < deadline_s:
        try:
            if httpx.get(url, timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise SystemExit(f"{url} did not answer 200 within 300 s")


def _load(port: int, music: Path, duration_s: float) -> dict[str, int]:
    """Sends requests at the RATES; returns the number of replies per status or error name."""
    recordings = [path.read_bytes() for path in sorted(music.rglob("*.ogg"))[:400]]
    rng = random.Random(0)
    outcomes: Counter[str] = Counter()
    lock = threading.Lock()

    def ask(client: httpx.Client, i: int) -> None:
        data = rng.choice(recordings[:20] if i % REPEATED_EVERY == 0 else recordings)
        if i % BROKEN_EVERY == 0:
            data = data[:40]
        url = f"http://127.0.0.1:{port}/v1/classify?effort={rng.choice(EFFORTS)}"
        try:
            outcome = str(client.post(url, content=data).status_code)
        except httpx.TransportError as error:
            outcome = type(error).__name__
        with lock:
            outcomes[outcome] += 1

    begun_s, i = time.monotonic(), 0
    with (
        httpx.Client(timeout=30, trust_env=False) as client,
        ThreadPoolExecutor(32) as pool,
    ):
        while (elapsed_s := time.monotonic() - begun_s) < duration_s:
            pool.submit(ask, client, i)
            i += 1
            time.sleep(1 / RATES[int(len(RATES) * elapsed_s / duration_s)])
    return dict(outcomes)


def _draw_all(port: int, begun_s: float) -> dict[str, str]:
    """Draws every dashboard; returns its name → "n of m" panels with data."""
    PICTURES.mkdir(exist_ok=True)
    drawn = {}
    for name, panels in load_panels().items():
        n_rows = (len(panels) + 1) // 2
        figure, axes = plt.subplots(n_rows, 2, figsize=(13, 3.1 * n_rows), squeeze=False)
        for axis in axes.flat[len(panels) :]:
            axis.axis("off")
        found = [
            _draw(axis, panel, port, begun_s)
            for axis, panel in zip(axes.flat, panels, strict=False)
        ]
        figure.suptitle(f"AcousticSense: {name}", fontsize=14)
        figure.tight_layout()
        figure.savefig(PICTURES / f"{name}.png", dpi=80)
        plt.close(figure)
        drawn[name] = f"{sum(found)} of {len(found)}"
    return drawn


def _draw(axis: Any, panel: Panel, port: int, begun_s: float) -> bool:
    n_lines = 0
    for query, legend in panel.queries.items():
        for series in _query(port, query, begun_s):
            values = np.array(series["values"], dtype=np.float64)
            times = matplotlib.dates.date2num(values[:, 0].astype("datetime64[s]"))
            axis.plot(times, values[:, 1], label=_legend(legend, series["metric"]), linewidth=1.3)
            n_lines += 1
    axis.set_title(panel.title, fontsize=10, loc="left")
    axis.set_ylabel(UNITS.get(panel.unit, panel.unit), fontsize=8)
    axis.set_ylim(bottom=0)
    axis.tick_params(labelsize=7)
    axis.xaxis.set_major_formatter(matplotlib.dates.DateFormatter("%H:%M:%S"))
    axis.grid(alpha=0.3)
    if n_lines:
        axis.legend(fontsize=6, ncols=3, loc="upper left", framealpha=0.6)
    else:
        axis.text(0.5, 0.5, "no data on this machine", transform=axis.transAxes, ha="center")
    return n_lines > 0


def _query(port: int, query: str, begun_s: float) -> list[dict[str, Any]]:
    # $__rate_interval is a variable of Grafana; Prometheus needs a number.
    reply = httpx.get(
        f"http://127.0.0.1:{port}/api/v1/query_range",
        params={
            "query": query.replace("$__rate_interval", RATE_INTERVAL), "start": str(begun_s),
            "end": str(time.time()), "step": f"{STEP_S}s",
        },
        trust_env=False,
    ).json()  # fmt: skip
    if reply["status"] != "success":
        raise SystemExit(f"{query}: {reply['error']}")
    series: list[dict[str, Any]] = reply["data"]["result"]
    return series


def _legend(template: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), template)


if __name__ == "__main__":
    main()
