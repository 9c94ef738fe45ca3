"""Speed and correctness of a batch job from a real S3 server to Parquet.

    python -m benchmarks.batch MUSIC [--files 2000]

MUSIC is a folder of recordings; they are copied under new names until there are enough, and every
twentieth file is broken. The job runs as a user would start it. Reports:
- whether every file has exactly one row;
- whether rows equal those of the pipeline in process, field by field;
- files per second after the start, against CPUs ÷ CPU seconds per track in process;
- whether a store that fails every fifth GET changes a row;
- peak memory of all processes of the job, with a quarter and two and a half times as many files;
- the share of bytes that ranged reads fetch from three-minute MP3s.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet
import soundfile

from acoustic.example import example_waveform
from acoustic.pipeline import Pipeline
from benchmarks.document import markdown_table, write_section
from benchmarks.s3_server import BUCKET, KEY, SECRET, FaultProxy, S3Server
from deployments.batch.schema import LEFT_OUT

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "models" / "default"
BROKEN_EVERY = 20
N_COMPARED = 100
SONG_S = 180.0
FAILURES = ("503", "reset", "truncate")
FAILING_SHARE, FAILING_TRIES = 0.2, 3
"""Share of GETs that fail at random; from the fourth GET of a file on none fails."""

MEMORY_RATIOS = (0.25, 2.5)
# Bitrate → libsndfile's compression level that gives it.
MP3_LEVELS = {"128 kbit/s": 0.66, "320 kbit/s": 0.0}


def main() -> None:
    """Measure, write the section, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("music", type=Path)
    parser.add_argument("--files", type=int, default=2000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="as-bench-") as folder:
        server = S3Server(Path(folder))
        try:
            names = _fill(server.bucket / "in", arguments.music, arguments.files)
            # Measured before and after the job, so that a steady drift of the machine cancels out.
            alone = [_in_process(server.bucket)]
            job = _run(server, server.endpoint, "in", "out")
            alone.append(_in_process(server.bucket))
            found = {**job, **_check(server.bucket, names), "in_process": _mean(alone)}
            found["failing"] = _measure_failing(server)
            found["ranged"] = _measure_ranges(server)
            found["memory"] = _measure_memory(server, arguments, job)
        finally:
            server.close()
    n_cpus = os.cpu_count() or 1
    possible = n_cpus / found["in_process"]["cpu_s_per_track"]
    found["share_of_possible"] = round(found["steady_files_per_s"] / possible, 3)
    write_section("Batch job", "python -m benchmarks.batch MUSIC", _tables(found, possible, n_cpus))
    print(json.dumps(found))


def _fill(folder: Path, music: Path, n_files: int) -> list[str]:
    recordings = sorted(
        path for path in music.rglob("*") if path.suffix in (".ogg", ".mp3", ".flac")
    )
    folder.mkdir()
    names = []
    for i in range(n_files):
        source = recordings[i % len(recordings)]
        name = f"{i:05}{source.suffix}"
        data = source.read_bytes()
        # A broken file is the first 50 bytes of a recording.
        (folder / name).write_bytes(data[:50] if i % BROKEN_EVERY == 7 else data)
        names.append(name)
    return names


def _run(server: S3Server, endpoint: str, source: str, out: str, *more: str) -> dict[str, Any]:
    """Runs the job as a process; returns its report and the peak memory of all its processes."""
    command = [
        sys.executable, "-m", "acousticsense", "batch", f"s3://{BUCKET}/{source}",
        "--out", f"s3://{BUCKET}/{out}", "--endpoint", endpoint, "--region", "us-east-1",
        "--progress", "plain", *more,
    ]  # fmt: skip
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=sys.stderr)
    peak, pause = 0, threading.Event()
    while process.poll() is None:
        peak = max(peak, _memory_bytes(process.pid))
        pause.wait(0.5)
    if process.returncode:
        raise SystemExit(f"the batch job failed with exit code {process.returncode}")
    report = json.loads((server.bucket / out / "_report.json").read_text())
    return {
        "n_files": report["n_rows"],
        "n_errors": report["n_errors"],
        "steady_files_per_s": report["run"]["steady_files_per_s"],
        "read_bytes": report["run"]["read_bytes"],
        "size_bytes": report["run"]["size_bytes"],
        "stage_s": report["run"]["stage_s"],
        "peak_mb": round(peak / 1e6),
    }


def _memory_bytes(pid: int) -> int:
    """Private memory of a process and its descendants in bytes, without shared pages."""
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for each in family:
        try:
            memory = each.memory_info()
            total += memory.rss - memory.shared
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def _rows(folder: Path) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for path in folder.glob("part-*.parquet"):
        for row in pyarrow.parquet.read_table(path).to_pylist():
            name = row["uri"].rpartition("/")[2]
            if name in rows:
                raise SystemExit(f"{name} has two rows in the output, expected one")
            rows[name] = row
    return rows


def _check(bucket: Path, names: list[str]) -> dict[str, Any]:
    rows = _rows(bucket / "out")
    pipeline = Pipeline.from_folder(CHECKPOINT)
    chosen = [name for i, name in enumerate(names) if i % BROKEN_EVERY != 7][:N_COMPARED]
    different = 0
    for name in chosen:
        expected = pipeline.classify((bucket / "in" / name).read_bytes()).to_dict()
        different += any(rows[name][k] != expected[k] for k in expected.keys() - set(LEFT_OUT))
    return {
        "missing_rows": len(set(names) - set(rows)),
        "compared": len(chosen),
        "different": different,
    }


def _in_process(bucket: Path) -> dict[str, float]:
    """CPU and wall seconds per track of the pipeline alone, one thread."""
    pipeline = Pipeline.from_folder(CHECKPOINT)
    files = sorted((bucket / "in").iterdir())[: 2 * N_COMPARED]
    # The broken files have 50 bytes and are left out.
    contents = [data for path in files if len(data := path.read_bytes()) > 50]
    pipeline.classify(contents[0])
    begun_cpu_s, begun_s = time.process_time(), time.perf_counter()
    for data in contents:
        try:
            pipeline.classify(data)
        except ValueError:
            continue
    n = len(contents)
    return {
        "cpu_s_per_track": round((time.process_time() - begun_cpu_s) / n, 5),
        "wall_s_per_track": round((time.perf_counter() - begun_s) / n, 5),
    }


def _mean(measured: list[dict[str, float]]) -> dict[str, float]:
    return {
        name: round(sum(each[name] for each in measured) / len(measured), 5) for name in measured[0]
    }


def _measure_failing(server: S3Server) -> dict[str, Any]:
    """Runs the same job through a store that fails a fifth of the GETs; compares the rows."""
    failed: Counter[str] = Counter()

    def fault(method: str, path: str, count: int) -> str:
        # Seeded by path and count: the same GETs fail whatever the order of requests.
        drawn = random.Random(f"{path} {count}")
        if method != "GET" or "/in/" not in path or count >= FAILING_TRIES:
            return ""
        if drawn.random() >= FAILING_SHARE:
            return ""
        name = drawn.choice(FAILURES)
        failed[name] += 1
        return name

    proxy = FaultProxy(server, fault)
    try:
        job = _run(server, proxy.endpoint, "in", "out-failing")
    finally:
        proxy.close()
    n_gets = sum(n for path, n in proxy.gets().items() if "/in/" in path)
    clean, rough = _rows(server.bucket / "out"), _rows(server.bucket / "out-failing")
    return {
        "gets": n_gets,
        "failed": dict(failed),
        "different_rows": sum(clean[name] != rough.get(name) for name in clean),
        "steady_files_per_s": job["steady_files_per_s"],
    }


def _measure_memory(
    server: S3Server, arguments: argparse.Namespace, job: dict[str, Any]
) -> dict[str, int]:
    """Number of files → peak private memory of all processes, MB."""
    found = {str(job["n_files"]): job["peak_mb"]}
    for ratio in MEMORY_RATIOS:
        n, folder = round(ratio * arguments.files), f"in-{ratio}"
        _fill(server.bucket / folder, arguments.music, n)
        found[str(n)] = _run(server, server.endpoint, folder, f"out-{ratio}")["peak_mb"]
    return found


def _measure_ranges(server: S3Server) -> dict[str, dict[str, Any]]:
    """Compares whole and ranged reads of three-minute MP3s at effort fast: bytes and rows."""
    rate = 44_100
    left = example_waveform(SONG_S, rate) + 0.01 * np.random.default_rng(0).standard_normal(
        round(SONG_S * rate)
    ).astype(np.float32)
    samples = np.stack([left, left[::-1]], axis=1)
    found = {}
    for name, level in MP3_LEVELS.items():
        folder = f"mp3-{name.split()[0]}"
        (server.bucket / folder).mkdir()
        file = io.BytesIO()
        with soundfile.SoundFile(
            file, "w", rate, 2, format="MP3", bitrate_mode="CONSTANT", compression_level=level
        ) as sound:
            sound.write(samples)
        for i in range(8):
            (server.bucket / folder / f"{i}.mp3").write_bytes(file.getvalue())
        jobs = {
            read: _run(
                server, server.endpoint, folder, f"{folder}-{read}",
                "--effort", "fast", "--read", read,
            )
            for read in ("whole", "ranged")
        }  # fmt: skip
        whole, ranged = (_rows(server.bucket / f"{folder}-{read}") for read in jobs)
        found[name] = {
            "share_of_bytes": round(jobs["ranged"]["read_bytes"] / jobs["whole"]["read_bytes"], 4),
            "same_rows": whole == ranged,
        }
    return found


def _tables(found: dict[str, Any], possible: float, n_cpus: int) -> str:
    failing = found["failing"]
    failed = f"({sum(failing['failed'].values())} of {failing['gets']} failed)"
    rows = [
        ["files, number of broken files", f"{found['n_files']}, {found['n_errors']}"],
        ["files without a row", str(found["missing_rows"])],
        ["rows that differ from the pipeline's", f"{found['different']} of {found['compared']}"],
        ["files per second, without the start", str(found["steady_files_per_s"])],
        [f"{n_cpus} CPUs ÷ CPU seconds per track in process", f"{possible:.2f}"],
        ["measured ÷ possible files per second", str(found["share_of_possible"])],
        [
            "rows changed by a fifth of the GETs failing",
            f"{failing['different_rows']} of {found['n_files']} {failed}",
        ],
        *(
            [f"peak private memory of all processes, {n} files, MB", str(peak)]
            for n, peak in sorted(found["memory"].items(), key=lambda each: int(each[0]))
        ),
    ]
    ranged = [
        [name, f"{row['share_of_bytes']:.1%}", "the same" if row["same_rows"] else "DIFFERENT"]
        for name, row in found["ranged"].items()
    ]
    header = ["3-minute MP3, effort fast", "bytes of ranged ÷ whole reads", "rows"]
    return f"{markdown_table(['batch job', 'value'], rows)}\n\n{markdown_table(header, ranged)}"


if __name__ == "__main__":
    main()
