"""CPU time of stage 1 by container, length and effort, against libsndfile alone.

    OMP_NUM_THREADS=1 python -m benchmarks.front_end [--runs N] [--short]

Three ways, interleaved in one process on one thread, medians of CPU time:
- floor: libsndfile opens the file, seeks, and reads the seconds of the windows;
- plain: the floor, mixed down, resampled, and made a mel spectrogram of, with no check;
- stage: the whole of stage 1, that is layout, decode, resample, log-mel, quality, descriptors.

Files are made-up music of 10 s, 3 min and 60 min (--short leaves out 60 min). The error column is
the largest absolute difference of a decoded sample from the floor's. A second table gives the
resident memory of a process with the preprocessing stage, with and without torch. The result goes
into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.example import example_waveform
from acoustic.preprocess.decode import open_audio
from acoustic.preprocess.preprocessor import Preprocessor
from acoustic.preprocess.segments import plan_rounds
from acoustic.request import Effort
from acoustic.types import Segment
from benchmarks.document import markdown_table, write_section
from deployments.built_in import DEFAULT_CHECKPOINT, built_in

COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.front_end"
SAMPLE_RATE = 44_100
LENGTHS_S = {"10 s": 10.0, "3 min": 180.0, "60 min": 3600.0}
CONTAINERS = ("MP3", "WAV", "FLAC", "OGG")
EFFORTS: tuple[Effort, ...] = ("fast", "balanced", "thorough")
PART_S = 60.0  # of one write: libsndfile's Vorbis encoder keeps a write on the stack

Samples = npt.NDArray[np.float32]


def make_file(container: str, duration_s: float) -> bytes:
    """Synthetic stereo music with some noise; MP3 has a constant bitrate of 128 kbit/s."""
    rng = np.random.default_rng(0)
    part = example_waveform(PART_S, SAMPLE_RATE)[:, None]
    part = (part + rng.normal(0, 0.02, (part.size, 2))).astype(np.float32)
    options = {"bitrate_mode": "CONSTANT", "compression_level": 0.66} if container == "MP3" else {}
    file = io.BytesIO()
    left = round(duration_s * SAMPLE_RATE)
    with sf.SoundFile(file, "w", SAMPLE_RATE, 2, format=container, **options) as sound:
        while left > 0:
            for block in np.array_split(part[:left], 20):
                sound.write(block)
            left -= len(part)
    return file.getvalue()


def floor(data: bytes, segments: list[Segment]) -> list[Samples]:
    """Lower bound: libsndfile opens, seeks, reads the segments: (frames, channels) each."""
    blocks = []
    with sf.SoundFile(io.BytesIO(data)) as sound:
        for segment in segments:
            sound.seek(round(segment.start_s * sound.samplerate))
            n_frames = round((segment.end_s - segment.start_s) * sound.samplerate)
            blocks.append(sound.read(n_frames, dtype="float32"))
    return blocks


def measure(ways: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Median CPU ms of each way; the ways run in turn, so that drift affects all."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(runs + 1):
        for name, way in ways.items():
            begun_s = time.process_time()
            way()
            if run:  # the first one fills caches
                times[name].append((time.process_time() - begun_s) * 1e3)
    return {name: round(statistics.median(each), 2) for name, each in times.items()}


def measure_file(
    preprocessor: Preprocessor, data: bytes, duration_s: float, effort: Effort, runs: int
) -> dict[str, float]:
    """CPU ms of the three ways, and the largest error of a sample."""
    mel = preprocessor.config.mel
    segments = list(plan_rounds(duration_s, mel.window_s, effort)[0])

    def plain() -> None:
        for block in floor(data, segments):
            mono = block @ np.full(2, 0.5, np.float32)
            samples = soxr.resample(mono, SAMPLE_RATE, mel.sample_rate, quality="HQ")
            preprocessor.spectrogram.power(samples[: mel.window_samples])

    row = measure(
        {
            "floor": lambda: floor(data, segments),
            "plain": plain,
            "stage": lambda: preprocessor.process(data, effort),
        },
        runs,
    )
    reader = open_audio(data)
    errors = []
    for segment, block in zip(segments, floor(data, segments), strict=True):
        found, expected = reader.read(segment).samples, block @ np.full(2, 0.5, np.float32)
        n = min(found.size, expected.size)
        errors.append(float(np.abs(found[:n] - expected[:n]).max()))
    return {**row, "error": max(errors)}


def resident_mb(statement: str) -> float:
    """Resident memory, MiB, of a new process after it has run a statement."""
    code = f"{statement}\nimport psutil\nprint(psutil.Process().memory_info().rss / 2**20)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return round(float(result.stdout), 1)


def measure_memory() -> dict[str, float]:
    """Resident MiB of a process after one file."""
    stage = "from acoustic.preprocess.preprocessor import *; from acoustic.example import *"
    use = "Preprocessor(PreprocessConfig()).process(example_wav(), 'fast')"
    return {
        "stage 1 alone": resident_mb(f"{stage}; {use}"),
        "with torch imported as well": resident_mb(f"import torch; {stage}; {use}"),
        "with ray.serve imported, as in a replica": resident_mb(
            f"import ray.serve; {stage}; {use}"
        ),
    }


def main() -> None:
    """Measure, print, write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--short", action="store_true")
    arguments = parser.parse_args()
    folder = CheckpointFolder.open(built_in(DEFAULT_CHECKPOINT))
    preprocessor = Preprocessor.from_folder(folder)
    results: dict[str, dict[str, float]] = {}
    for container in CONTAINERS:
        for length, duration_s in LENGTHS_S.items():
            if arguments.short and duration_s > 600:
                continue
            data = make_file(container, duration_s)
            for effort in EFFORTS:
                name = f"{container}, {length}, {effort}"
                results[name] = measure_file(preprocessor, data, duration_s, effort, arguments.runs)
                print(name, results[name], file=sys.stderr, flush=True)
    memory = measure_memory()
    rows = [
        [
            name, *(f"{row[way]:.1f}" for way in ("floor", "plain", "stage")),
            f"{row['stage'] / row['floor']:.2f}", f"{row['stage'] / row['plain']:.2f}",
            f"{row['error']:.1e}",
        ]
        for name, row in results.items()
    ]  # fmt: skip
    header = ["file, effort", "floor, CPU ms", "plain", "stage 1", "stage 1 ÷ floor",
              "stage 1 ÷ plain", "largest sample difference"]  # fmt: skip
    sizes = markdown_table(
        ["process after one file", "resident MiB"], [[k, f"{mb:.0f}"] for k, mb in memory.items()]
    )
    body = (
        "floor: libsndfile opens, seeks and reads; plain: that, mixed down, resampled, mel; stage "
        f"1: everything, with the geometry of {folder.manifest.name} {folder.manifest.version} "
        f"({folder.manifest.digest}).\n\n"
    )
    write_section("Front end", COMMAND, f"{body}{markdown_table(header, rows)}\n\n{sizes}")
    document = {"benchmark": "front_end", "runs": arguments.runs, "results": results,
                "resident_mb": memory}  # fmt: skip
    print(json.dumps(document))


if __name__ == "__main__":
    main()
