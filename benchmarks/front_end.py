"""CPU time to decode one window of a three-minute MP3: `open_audio` against libsndfile alone.

    OMP_NUM_THREADS=1 python -m benchmarks.front_end [--runs N]

Three ways, interleaved in one process on one thread, medians of CPU and wall time:
- floor: libsndfile opens the file, seeks, reads the seconds of one window, mixes down;
- decode: `open_audio` on the same seconds, with all its checks;
- stage: the whole of stage 1 at effort fast, that is hash, decode, resample, log-mel, quality.

The error column is the largest absolute difference of a sample from the floor's. A second table
gives the resident memory of a process with the preprocessing stage, with and without torch.
The result goes into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import soundfile as sf

from acoustic.example import example_waveform
from acoustic.geometry import MelConfig
from acoustic.preprocess.decode import open_audio
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from acoustic.preprocess.segments import plan_segments
from acoustic.types import Segment
from benchmarks.document import markdown_table, write_section

COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.front_end"
DURATION_S = 180.0
SAMPLE_RATE = 44_100


def make_mp3() -> bytes:
    """Three minutes of synthetic stereo music with some noise, encoded as MP3."""
    rng = np.random.default_rng(0)
    left = example_waveform(DURATION_S, SAMPLE_RATE)
    noise = rng.standard_normal((left.size, 2)).astype(np.float32) * 0.02
    file = io.BytesIO()
    sf.write(file, left[:, None] + noise, SAMPLE_RATE, format="MP3")
    return file.getvalue()


def floor(data: bytes, segment: Segment) -> npt.NDArray[np.float32]:
    """Lower bound: libsndfile opens, seeks, reads one segment and mixes it down."""
    with sf.SoundFile(io.BytesIO(data)) as sound:
        sound.seek(round(segment.start_s * sound.samplerate))
        n_frames = round((segment.end_s - segment.start_s) * sound.samplerate)
        block = sound.read(n_frames, dtype="float32")
    # (T, 2) @ (2,) → (T,): the mean of both channels.
    return np.asarray(block @ np.full(block.shape[1], 0.5, np.float32))


def measure(ways: dict[str, Callable[[], object]], runs: int) -> dict[str, dict[str, float]]:
    """Median CPU and wall ms of each way; the ways run in turn, so that drift affects all."""
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    # One run of each before the clock starts: imports, tables and caches are ready.
    for way in ways.values():
        way()
    for _ in range(runs):
        for name, way in ways.items():
            start_cpu_s, start_s = time.process_time(), time.perf_counter()
            way()
            cpu[name].append((time.process_time() - start_cpu_s) * 1e3)
            wall[name].append((time.perf_counter() - start_s) * 1e3)
    return {
        name: {
            "cpu_ms": round(statistics.median(cpu[name]), 2),
            "wall_ms": round(statistics.median(wall[name]), 2),
        }
        for name in ways
    }


def resident_mb(statement: str) -> float:
    """Resident memory, MiB, of a new process after it has run a statement."""
    code = f"{statement}\nimport psutil\nprint(psutil.Process().memory_info().rss / 2**20)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return round(float(result.stdout), 1)


def _page(results: dict[str, dict[str, float]], error: float, memory: dict[str, float]) -> str:
    """Markdown of the section in docs/benchmarks.md."""
    what = {
        "floor": "libsndfile opens, seeks, reads and mixes down the seconds of one window",
        "decode": "`open_audio` on the same seconds, with all its checks",
        "stage": "stage 1 at effort fast: hash, decode, resample, log-mel, quality",
    }
    rows = [
        [what[name], f"{row['cpu_ms']:.2f}", f"{row['wall_ms']:.2f}", f"{row['ratio']:.2f}",
         f"{error:.1e}" if name == "decode" else ""]
        for name, row in results.items()
    ]  # fmt: skip
    table = markdown_table(["one window of a 3-minute stereo MP3", "CPU ms", "wall ms",
                            "CPU / floor", "largest sample difference"], rows)  # fmt: skip
    labels = {
        "stage_1": "stage 1 alone",
        "stage_1_with_torch": "with torch imported as well",
        "stage_1_in_ray_serve": "with ray.serve imported, as in a replica",
    }
    sizes = [[labels[name], f"{mb:.0f}"] for name, mb in memory.items()]
    return f"{table}\n\n{markdown_table(['process after one file', 'resident MiB'], sizes)}"


def main() -> None:
    """Measure, print, write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    runs = parser.parse_args().runs
    data = make_mp3()
    preprocessor = Preprocessor(PreprocessConfig())
    (segment,) = plan_segments(DURATION_S, MelConfig().window_s, 1)
    expected = floor(data, segment)
    found = open_audio(data).read(segment).samples
    results = measure(
        {
            "floor": lambda: floor(data, segment),
            "decode": lambda: open_audio(data).read(segment),
            "stage": lambda: preprocessor.process(data, "fast"),
        },
        runs,
    )
    n_common = min(found.size, expected.size)
    error = float(np.abs(found[:n_common] - expected[:n_common]).max())
    base = results["floor"]["cpu_ms"]
    window_s = MelConfig().window_s
    print(f"{len(data) / 2**20:.1f} MiB MP3, {DURATION_S:.0f} s, one window of {window_s:.2f} s")
    print(f"{'way':8}{'CPU ms':>10}{'wall ms':>10}{'CPU / floor':>13}{'max error':>12}")
    for name, row in results.items():
        row["ratio"] = round(row["cpu_ms"] / base, 2)
        shown = f"{error:.1e}" if name == "decode" else ""
        print(f"{name:8}{row['cpu_ms']:10.2f}{row['wall_ms']:10.2f}{row['ratio']:13.2f}{shown:>12}")
    stage = "from acoustic.preprocess.preprocessor import *; from acoustic.example import *"
    use = "Preprocessor(PreprocessConfig()).process(example_wav(), 'fast')"
    memory = {
        "stage_1": resident_mb(f"{stage}; {use}"),
        "stage_1_with_torch": resident_mb(f"import torch; {stage}; {use}"),
        "stage_1_in_ray_serve": resident_mb(f"import ray.serve; {stage}; {use}"),
    }
    for name, mb in memory.items():
        print(f"resident memory, {name}: {mb} MiB")
    write_section("Front end", COMMAND, _page(results, error, memory))
    document = {
        "benchmark": "front_end",
        "runs": runs,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "results": results,
        "max_error": error,
        "resident_mb": memory,
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
