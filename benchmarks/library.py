"""A folder of files through `acousticsense classify`: CPU a file, and how well it uses the cores.

    python -m benchmarks.library [--files 100] [--workers 1 2 4]

Three-minute MP3s, effort balanced, in turn with every number of workers; the start of the command
is measured with one file and taken off. The ideal is the CPU time of the three stages in this
process on one thread, over all cores. The result goes into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from threadpoolctl import threadpool_limits

from acoustic.pipeline import Pipeline
from benchmarks.document import markdown_table, write_section
from benchmarks.http_peers import make_mp3
from deployments.built_in import DEFAULT_CHECKPOINT, built_in

COMMAND = "python -m benchmarks.library"
MAX_FILES = 1000


def classify(paths: list[Path], out: Path, workers: int) -> tuple[float, float, int]:
    """Wall and CPU seconds of the command, and the number of rows without an error."""
    before, begun_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "acousticsense", "classify", *map(str, paths), "--format", "jsonl",
         "--out", str(out), "--workers", str(workers)],
        check=True, capture_output=True,
    )  # fmt: skip
    seconds, after = time.perf_counter() - begun_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    out.unlink()
    return seconds, cpu_s, sum("top_genre" in row for row in rows)


def ideal_ms(song: bytes) -> float:
    """CPU ms of one file through the three stages, one thread."""
    pipeline = Pipeline.from_folder(built_in(DEFAULT_CHECKPOINT))
    times = []
    with threadpool_limits(1):
        for _ in range(15):
            begun_s = time.process_time()
            pipeline.classify(song)
            times.append((time.process_time() - begun_s) * 1e3)
    return statistics.median(times[2:])


def main() -> None:
    """Measure, print, write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    arguments = parser.parse_args()
    n = min(arguments.files, MAX_FILES)
    n_cores = len(os.sched_getaffinity(0))
    song = make_mp3()
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / f"{i:04}.mp3" for i in range(n)]
        for path in paths:
            path.write_bytes(song + os.urandom(16))
        alone_ms = ideal_ms(song)
        for workers in arguments.workers:
            start_s, start_cpu_s, _ = classify(paths[:1], folder / "one.jsonl", workers)
            seconds, cpu_s, n_right = classify(paths, folder / "all.jsonl", workers)
            per_s = (n - 1) / (seconds - start_s)
            results.append(
                {
                    "workers": workers,
                    "start_s": round(start_s, 1),
                    "start_cpu_s": round(start_cpu_s, 1),
                    "cpu_ms_a_file": round((cpu_s - start_cpu_s) * 1e3 / (n - 1), 1),
                    "files_per_s": round(per_s, 1),
                    "share_of_ideal": round(per_s * alone_ms / 1e3 / n_cores, 2),
                    "errors": n - n_right,
                }
            )
    rows = [[str(value) for value in each.values()] for each in results]
    header = ["workers", "start, s", "start, CPU s", "CPU ms a file", "files/s", "share of ideal",
              "errors"]  # fmt: skip
    body = (
        f"{n} MP3s of 3 minutes, {n_cores} cores; the three stages alone take {alone_ms:.0f} CPU "
        "ms a file on one thread.\n\n"
    )
    write_section("A folder of files", COMMAND, body + markdown_table(header, rows))
    document = {"benchmark": "library", "files": n, "cores": n_cores, "alone_ms": alone_ms,
                "results": results}  # fmt: skip
    print(json.dumps(document))


if __name__ == "__main__":
    main()
