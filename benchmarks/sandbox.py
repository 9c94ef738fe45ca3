"""What a process of its own costs: stage 1 in the sandbox against stage 1 in this process.

    OMP_NUM_THREADS=1 python -m benchmarks.sandbox [--runs 15]

The same files, interleaved; CPU time is that of both processes. The result goes into
docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import psutil
import soundfile as sf

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.example import example_waveform
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from acoustic.preprocess.sandbox import Sandbox
from acoustic.preprocess.sandbox_child import SandboxConfig
from acoustic.request import Effort
from benchmarks.document import markdown_table, write_section
from deployments.built_in import built_in

COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.sandbox"
CASES: tuple[tuple[str, str, float, Effort], ...] = (
    ("MP3", "MPEG_LAYER_III", 180.0, "balanced"),
    ("MP3", "MPEG_LAYER_III", 180.0, "fast"),
    ("WAV", "PCM_16", 180.0, "balanced"),
    ("FLAC", "PCM_16", 10.0, "balanced"),
)
MAX_RUNS = 200


def make_file(container: str, subtype: str, seconds: float) -> bytes:
    """A stereo file."""
    mono = example_waveform(seconds, 44_100)
    noise = np.random.default_rng(0).normal(0, 0.01, (mono.size, 2)).astype(np.float32)
    file = io.BytesIO()
    sf.write(file, mono[:, None] + noise, 44_100, format=container, subtype=subtype)
    return file.getvalue()


def timed(work: Callable[[], object], child: psutil.Process | None) -> tuple[float, float]:
    """Milliseconds of the clock, and of CPU of this process and a child."""

    def cpu_s() -> float:
        total = time.process_time()
        if child is not None:
            times = child.cpu_times()
            total += times.user + times.system
        return total

    begun_s, begun_cpu_s = time.perf_counter(), cpu_s()
    work()
    return 1e3 * (time.perf_counter() - begun_s), 1e3 * (cpu_s() - begun_cpu_s)


def main() -> None:
    """Measure, print, write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    runs = min(parser.parse_args().runs, MAX_RUNS)
    config = PreprocessConfig(mel=CheckpointFolder.open(built_in("models/default")).mel)
    plain, box = Preprocessor(config), Sandbox(config, SandboxConfig())
    child = psutil.Process(box.pids()[0])
    rows, found = [], []
    for container, subtype, seconds, effort in CASES:
        data = make_file(container, subtype, seconds)
        kinds: dict[str, tuple[Callable[[], object], psutil.Process | None]] = {
            "here": (lambda data=data, effort=effort: plain.process(data, effort), None),  # type: ignore[misc]
            "sandbox": (lambda data=data, effort=effort: box.process(data, effort), child),  # type: ignore[misc]
        }
        seen: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
        for i in range(-2, runs):
            for kind, (work, other) in kinds.items():
                result = timed(work, other)
                if i >= 0:
                    seen[kind].append(result)
        wall = {kind: statistics.median(w for w, _ in values) for kind, values in seen.items()}
        # the kernel counts CPU time of a process in ticks of 10 ms: a sum is exact, one run is not
        cpu = {kind: sum(c for _, c in values) / runs for kind, values in seen.items()}
        case = f"{container}, {seconds:g} s, {len(data) / 1e6:.1f} MB, {effort}"
        more = wall["sandbox"] - wall["here"]
        rows.append(
            [case, f"{wall['here']:.1f}", f"{wall['sandbox']:.1f}", f"{more:+.1f}",
             f"{cpu['here']:.1f}", f"{cpu['sandbox']:.1f}", f"{cpu['sandbox'] / cpu['here']:.2f}"]
        )  # fmt: skip
        found.append({"case": case, "wall_ms": wall, "cpu_ms": cpu})
    box.close()
    header = ["file", "here, ms", "sandbox, ms", "difference", "here, CPU ms", "sandbox, CPU ms",
              "CPU ratio"]  # fmt: skip
    write_section("Sandbox", COMMAND, markdown_table(header, rows))
    print(json.dumps({"benchmark": "sandbox", "runs": runs, "results": found}))


if __name__ == "__main__":
    main()
