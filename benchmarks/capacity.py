"""What a track costs, and what a job of a million costs before its first file: figures to plan by.

    OMP_NUM_THREADS=1 python -m benchmarks.capacity

Stage 1 and stage 2 of a three-minute MP3 at every effort, interleaved on one thread, medians of CPU
time; then the listing of a manifest of a million files and the hand-over of its chunks to Ray Data.
Writes into docs/capacity.md.
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

from acoustic.classify.classifier import Classifier
from acoustic.preprocess.example import example_waveform
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from acoustic.preprocess.segments import WINDOWS_BY_EFFORT
from acoustic.types import Effort
from benchmarks.document import markdown_table, write_section
from deployments.batch.run import _chunk
from deployments.batch.sources import list_files
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
    rows = [
        [
            effort, str(row["windows"]), f"{row['hear_ms']:.1f}", f"{row['classify_ms']:.1f}",
            f"{(row['hear_ms'] + row['classify_ms']) / 3.6:.1f}",
        ]
        for effort, row in tracks.items()
    ]  # fmt: skip
    cost = markdown_table(
        ["effort", "windows", "stage 1, CPU ms", "stage 2 on a CPU, ms", "core-hours a million"],
        rows,
    )
    feed = [
        [f"{rate:,}"]
        + [f"{math.ceil(rate * row['hear_ms'] / row['windows'] / 1e3)}" for row in tracks.values()]
        for rate in GPU_RATES
    ]
    cores = markdown_table(["windows a second on the GPUs", *tracks], feed)
    body = f"{cost}\n\nCores of stage 1 that a rate needs:\n\n{cores}"
    write_section("A track", COMMAND, body, PAGE)
    labels = {
        "list_s": "seconds to list a manifest of a million files",
        "list_mb": "memory of the list, MB",
        "chunk_s": "seconds to hand its chunks to Ray Data",
        "n_chunks": "chunks, each a part file in the end",
    }
    table = markdown_table(
        ["a job of a million files", "value"], [[labels[k], f"{v:,}"] for k, v in job.items()]
    )
    write_section("A million files", COMMAND, table, PAGE)
    print(json.dumps({"tracks": tracks, "job": job}))


def measure_tracks() -> dict[str, dict[str, Any]]:
    """Effort → windows, CPU ms of stage 1 and of stage 2."""
    file = io.BytesIO()
    soundfile.write(file, example_waveform(DURATION_S, RATE_HZ), RATE_HZ, format="MP3")
    folder = ROOT / "models" / "default"
    preprocessor = Preprocessor.from_folder(folder, PreprocessConfig())
    config = load_config(ROOT / "configs" / "default.yaml")
    classifier = Classifier.from_folder(folder, config.engine)
    times: dict[str, dict[str, list[float]]] = {e: {"hear": [], "classify": []} for e in EFFORTS}
    for _ in range(N_RUNS):
        for effort in EFFORTS:
            begun_s = time.process_time()
            features = preprocessor.process(file.getvalue(), effort)
            heard_s = time.process_time()
            classifier.classify([features])
            times[effort]["hear"].append(heard_s - begun_s)
            times[effort]["classify"].append(time.process_time() - heard_s)
    return {
        effort: {
            "windows": WINDOWS_BY_EFFORT[effort],
            **{f"{k}_ms": round(statistics.median(v) * 1e3, 2) for k, v in found.items()},
        }
        for effort, found in times.items()
    }


def measure_job() -> dict[str, Any]:
    """Listing and hand-over of N_FILES."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "songs.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["uri"])
            writer.writerows([f"s3://music/{i % 997:03}/{i:07}.mp3"] for i in range(N_FILES))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun_s = time.perf_counter()
        files = list_files([str(path)], StorageOptions())
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
