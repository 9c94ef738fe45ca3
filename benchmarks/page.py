"""How long a person waits on the page, against the HTTP API.

    python -m benchmarks.page [--runs 7]

Starts the service and Chromium, and takes turns: an MP3 of 3 minutes by the API, until its reply;
and chosen in the page, until its answer is on the screen. No two files are the same. The result
goes into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile as sf

from benchmarks.document import markdown_table, write_section
from benchmarks.s3_server import free_port
from benchmarks.server_process import running

COMMAND = "python -m benchmarks.page"
RATE, DURATION_S = 44_100, 180
MAX_RUNS = 30
ANSWER_MS = 60_000


def make_mp3(seed: int) -> bytes:
    """Three minutes of a changing chord with noise."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(RATE * DURATION_S) / RATE
    notes = (np.sin(2 * np.pi * hz * time_s) for hz in rng.uniform(100, 2000, 3))
    sound = sum(notes) * 0.1 + rng.normal(0, 0.02, time_s.size)
    file = io.BytesIO()
    sf.write(file, sound.astype(np.float32), RATE, format="MP3", subtype="MPEG_LAYER_III")
    return file.getvalue()


def ask_api(client: httpx.Client, path: Path) -> float:
    """Seconds until the reply, with what the page asks for."""
    content = path.read_bytes()
    begun_s = time.perf_counter()
    reply = client.post("/v1/classify?timeline=true&sets=true&top_k=16", content=content)
    reply.raise_for_status()
    return time.perf_counter() - begun_s


def ask_page(page: Any, path: Path) -> float:
    """Seconds from the choice of a file until its answer is drawn."""
    begun_s = time.perf_counter()
    page.set_input_files("#files", str(path))
    page.wait_for_selector(f'article[aria-label="Answer about {path.name}"]', timeout=ANSWER_MS)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => done()))")
    return time.perf_counter() - begun_s


def measure(url: str, folder: Path, runs: int) -> dict[str, list[float]]:
    """Seconds of every run, interleaved."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("ACOUSTICSENSE_CHROMIUM") or shutil.which("chromium")
    if path is None:
        sys.exit("chromium is not on the PATH")
    found: dict[str, list[float]] = {"api": [], "page": []}
    with sync_playwright() as started, httpx.Client(base_url=url, timeout=120) as client:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(url)
        page.wait_for_selector("text=ready")
        for i in range(-1, runs):  # the first one warms up
            files = [folder / f"{kind} {i}.mp3" for kind in found]
            for j, file in enumerate(files):
                file.write_bytes(make_mp3(2 * i + j + 2))
            seconds = {"api": ask_api(client, files[0]), "page": ask_page(page, files[1])}
            page.wait_for_selector(".wave > div", timeout=ANSWER_MS)  # its work is done
            if i >= 0:
                for kind, value in seconds.items():
                    found[kind].append(value)
        browser.close()
    return found


def main() -> None:
    """Measure, print, write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = min(parser.parse_args().runs, MAX_RUNS)
    port = free_port()
    own = [sys.executable, "-m", "acousticsense", "serve", "--port", str(port)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running(own, f"http://127.0.0.1:{port}", folder / "log") as server:
            seconds = measure(server.url, folder, runs)
    medians = {kind: statistics.median(values) for kind, values in seconds.items()}
    ratio = medians["page"] / medians["api"]
    rows = [
        [kind, f"{1e3 * medians[kind]:.0f}", f"{1e3 * min(values):.0f} to {1e3 * max(values):.0f}"]
        for kind, values in seconds.items()
    ]
    table = markdown_table(["way", "median, ms", "range, ms"], rows)
    write_section(
        "The page", COMMAND,
        f"MP3 of 3 minutes, from the choice to the answer on the screen, {runs} runs: "
        f"{ratio:.2f} of the API.\n\n{table}",
    )  # fmt: skip
    print(json.dumps({"benchmark": "page", "runs": runs, "seconds": seconds, "ratio": ratio}))


if __name__ == "__main__":
    main()
