"""Time of stage 3 per track: calibration, rules, uncertainty, prediction set, reasons.

    OMP_NUM_THREADS=1 python -m benchmarks.postprocess [--tracks 500]

The tracks are random variations of the shipped model's logits of a synthetic track. The cases are
timed in turn, so that drift of the machine affects all of them equally. The limit is 1 ms.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.example import example_wav
from acoustic.pipeline import Pipeline
from acoustic.postprocess.postprocessor import Postprocessor
from acoustic.preprocess.segments import WINDOWS_BY_EFFORT
from acoustic.request import Effort
from acoustic.types import TrackLogits
from benchmarks.document import markdown_table, write_section
from deployments.config import load_rules

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "models" / "default"
LIMIT_MS = 1.0


def main() -> None:
    """Measure, write the section, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracks", type=int, default=500)
    n_tracks = parser.parse_args().tracks
    plain = Postprocessor.from_folder(CheckpointFolder.open(CHECKPOINT))
    rules = load_rules(ROOT / "configs" / "rules-guide.yaml")
    ruled = Postprocessor.from_folder(
        CheckpointFolder.open(CHECKPOINT), replace(plain.config, rules=rules)
    )
    cases: dict[str, tuple[Postprocessor, Effort]] = {
        "1 window": (plain, "fast"),
        "3 windows": (plain, "balanced"),
        "10 windows": (plain, "thorough"),
        "10 windows, with the guide's rules": (ruled, "thorough"),
    }
    tracks = {effort: _tracks(effort, n_tracks) for effort in WINDOWS_BY_EFFORT}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for i in range(n_tracks):
        for name, (stage, effort) in cases.items():
            times[name].append(_time_ms(partial(stage.process, tracks[effort][i])))
    rows = {
        name: {
            "median_ms": round(statistics.median(values), 4),
            "p99_ms": round(float(np.quantile(values, 0.99)), 4),
        }
        for name, values in times.items()
    }
    table = markdown_table(
        ["stage 3 of one track", "median ms", "99 of 100 within ms"],
        [[name, str(row["median_ms"]), str(row["p99_ms"])] for name, row in rows.items()],
    )
    write_section("Postprocessing", "OMP_NUM_THREADS=1 python -m benchmarks.postprocess", table)
    print(json.dumps({"limit_ms": LIMIT_MS, "n_tracks": n_tracks, "rows": rows}))


def _time_ms(run: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    run()
    return (time.perf_counter() - begun_s) * 1e3


def _tracks(effort: Effort, n: int) -> list[TrackLogits]:
    """Logits of a synthetic track, varied at random so that no two tracks are equal."""
    pipeline = Pipeline.from_folder(CHECKPOINT)
    (track,) = pipeline.classifier.classify(
        [pipeline.preprocessor.process(example_wav(60), effort)]
    )
    rng = np.random.default_rng(0)
    shape = track.logits.shape
    return [
        replace(track, logits=track.logits + rng.normal(0, 1, shape).astype(np.float32))
        for _ in range(n)
    ]


if __name__ == "__main__":
    main()
