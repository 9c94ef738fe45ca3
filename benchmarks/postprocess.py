"""What stage 3 costs per track: calibration, rules, uncertainty, prediction set, reasons.

    OMP_NUM_THREADS=1 python -m benchmarks.postprocess [--tracks 500]

The shipped model's logits of a made-up track are varied; every case is timed in turn, so that
drift of the machine meets all alike. The limit is 1 ms.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from acoustic.pipeline import Pipeline
from acoustic.postprocess.postprocessor import Postprocessor
from acoustic.preprocess.example import example_wav
from acoustic.preprocess.segments import WINDOWS_BY_EFFORT
from acoustic.types import Effort, TrackLogits
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
    plain = Postprocessor.from_folder(CHECKPOINT)
    rules = load_rules(ROOT / "configs" / "rules-seed.yaml")
    ruled = Postprocessor.from_folder(CHECKPOINT, replace(plain.config, rules=rules))
    cases: dict[str, tuple[Postprocessor, Effort]] = {
        "1 window": (plain, "fast"),
        "3 windows": (plain, "balanced"),
        "10 windows": (plain, "thorough"),
        "10 windows, the guide's rules on": (ruled, "thorough"),
    }
    tracks = {effort: _tracks(effort, n_tracks) for effort in WINDOWS_BY_EFFORT}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for i in range(n_tracks):
        for name, (stage, effort) in cases.items():
            times[name].append(_time_ms(lambda s=stage, t=tracks[effort][i]: s.process(t)))
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
    """Real logits of a made-up track, varied so that no two tracks are alike."""
    pipeline = Pipeline.from_folder(CHECKPOINT)
    (heard,) = pipeline.classifier.classify(
        [pipeline.preprocessor.process(example_wav(60), effort)]
    )
    rng = np.random.default_rng(0)
    shape = heard.logits.shape
    return [
        replace(heard, logits=heard.logits + rng.normal(0, 1, shape).astype(np.float32))
        for _ in range(n)
    ]


if __name__ == "__main__":
    main()
