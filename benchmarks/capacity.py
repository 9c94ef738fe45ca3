"""Capacity figures: CPU time per track, and start-up cost of a batch job of a million files.

    OMP_NUM_THREADS=1 python -m benchmarks.capacity

Measures stage 1 and stage 2 of a three-minute MP3 at every effort, interleaved on one thread
(medians of CPU time). Then times listing a manifest of a million files and handing its chunks to
Ray Data. Writes into docs/capacity.md.
"""

from __future__ import annotations

import csv
import io
import json
import math
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import soundfile

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.classifier import Classifier
from acoustic.example import example_waveform
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from acoustic.preprocess.segments import WINDOWS_BY_EFFORT
from acoustic.request import Effort
from benchmarks.document import markdown_table, write_section
from deployments.batch.job import _chunk
from deployments.batch.listing import list_files
from deployments.batch.storage import StorageOptions
from deployments.config import load_config

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "capacity.md"
COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.capacity"
N_RUNS = 15
DURATION_S, RATE_HZ = 180.0, 44_100
EFFORTS: tuple[Effort, ...] = ("fast", "balanced", "thorough")
GPU_RATES = (500, 1000, 2000, 5000)
N_FILES, CHUNK = 1_000_000, 32


def main() -> None:
    """Measure, write the sections, print JSON."""
    tracks = measure_tracks()
    job = measure_job()
    # ms per track × 1e6 tracks ÷ 3.6e6 ms per hour = ms ÷ 3.6 core-hours per million tracks.
    rows = [
        [
            effort, str(row["windows"]), f"{row['preprocess_ms']:.1f}", f"{row['classify_ms']:.1f}",
            f"{(row['preprocess_ms'] + row['classify_ms']) / 3.6:.1f}",
        ]
        for effort, row in tracks.items()
    ]  # fmt: skip
    cost = markdown_table(
        ["effort", "windows", "stage 1, CPU ms", "stage 2 on a CPU, ms", "core-hours per million"],
        rows,
    )
    # windows/s × CPU ms per track ÷ windows per track ÷ 1e3 = CPU seconds per second = cores.
    feed = [
        [f"{rate:,}"]
        + [
            f"{math.ceil(rate * row['preprocess_ms'] / row['windows'] / 1e3)}"
            for row in tracks.values()
        ]
        for rate in GPU_RATES
    ]
    cores = markdown_table(["windows per second on the GPUs", *tracks], feed)
    body = f"{cost}\n\nCPU cores of stage 1 that a rate of windows needs:\n\n{cores}"
    write_section("A track", COMMAND, body, PAGE)
    labels = {
        "list_s": "seconds to list a manifest of a million files",
        "list_mb": "memory of the list, MB",
        "chunk_s": "seconds to hand its chunks to Ray Data",
        "n_chunks": "chunks, each written as one part file",
    }
    table = markdown_table(
        ["a job of a million files", "value"], [[labels[k], f"{v:,}"] for k, v in job.items()]
    )
    write_section("A million files", COMMAND, table, PAGE)
    print(json.dumps({"tracks": tracks, "job": job}))


def measure_tracks() -> dict[str, dict[str, Any]]:
    """Effort → windows, median CPU ms of stage 1 and of stage 2."""
    file = io.BytesIO()
    soundfile.write(file, example_waveform(DURATION_S, RATE_HZ), RATE_HZ, format="MP3")
    folder = ROOT / "models" / "default"
    preprocessor = Preprocessor.from_folder(CheckpointFolder.open(folder), PreprocessConfig())
    config = load_config(ROOT / "configs" / "default.yaml")
    classifier = Classifier.from_folder(CheckpointFolder.open(folder), config.engine)
    times: dict[Effort, dict[str, list[float]]] = {
        e: {"preprocess": [], "classify": []} for e in EFFORTS
    }
    for _ in range(N_RUNS):
        for effort in EFFORTS:
            begun_s = time.process_time()
            features = preprocessor.process(file.getvalue(), effort)
            preprocessed_s = time.process_time()
            classifier.classify([features])
            times[effort]["preprocess"].append(preprocessed_s - begun_s)
            times[effort]["classify"].append(time.process_time() - preprocessed_s)
    return {
        effort: {
            "windows": WINDOWS_BY_EFFORT[effort],
            **{f"{k}_ms": round(statistics.median(v) * 1e3, 2) for k, v in found.items()},
        }
        for effort, found in times.items()
    }


def measure_job() -> dict[str, Any]:
    """Seconds and MB to list N_FILES, seconds to hand their chunks to Ray Data."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "songs.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["uri"])
            writer.writerows([f"s3://music/{i % 997:03}/{i:07}.mp3"] for i in range(N_FILES))
        # ru_maxrss is the peak of this process in KiB on Linux: its growth is the list.
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun_s = time.perf_counter()
        files = list_files([str(path)], StorageOptions()).files
        list_s = time.perf_counter() - begun_s
    list_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    chunks = [files[i : i + CHUNK] for i in range(0, len(files), CHUNK)]
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    try:
        begun_s = time.perf_counter()
        ray.data.from_arrow([_chunk(chunk) for chunk in chunks])
        chunk_s = time.perf_counter() - begun_s
    finally:
        ray.shutdown()
    return {
        "list_s": round(list_s, 1), "list_mb": round(list_mb), "chunk_s": round(chunk_s, 1),
        "n_chunks": len(chunks),
    }  # fmt: skip


if __name__ == "__main__":
    main()
