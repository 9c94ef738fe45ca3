"""CPU time of a model call, and how far its answers are from float32, for every way to run it here.

    OMP_NUM_THREADS=1 python -m benchmarks.engine [DATA] [--runs N] [--checkpoint FOLDER]

One thread, the ways interleaved, medians of CPU time per window. DATA is a folder with audio files;
up to 400 windows of them, one effort `balanced` each file, give the differences from eager float32
(largest difference of a probability, share of windows with the same best genre). Without DATA they
are of made-up sounds. The result goes into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.classifier import Classifier
from acoustic.classify.engine import cpu_has_bf16
from acoustic.classify.engine_config import EngineConfig
from acoustic.errors import AcousticError
from acoustic.example import example_wav
from acoustic.file_walk import walk_files
from acoustic.preprocess.preprocessor import Preprocessor
from benchmarks.document import markdown_table, write_section
from deployments.built_in import DEFAULT_CHECKPOINT, built_in

COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.engine DATA"
SIZES = (1, 3, 10, 30)
N_WINDOWS = 400


def ways(cache: str) -> dict[str, EngineConfig]:
    """Name of each way that this machine can run → its settings."""
    fp32 = EngineConfig(accelerator="cpu", precision="fp32")
    found = {"eager fp32": fp32, "eager int8": EngineConfig(accelerator="cpu", precision="int8")}
    if cpu_has_bf16():
        found["eager bf16"] = EngineConfig(accelerator="cpu", precision="bf16")
    for precision in ("fp32", "bf16") if cpu_has_bf16() else ("fp32",):
        found[f"openvino {precision}"] = EngineConfig(
            accelerator="cpu",
            precision=precision,
            backend="openvino",
            compile_cache=cache,
        )
    return found


def collect_windows(folder: CheckpointFolder, data: Path | None) -> npt.NDArray[Any]:
    """Windows of real files, or of a made-up sound."""
    preprocessor = Preprocessor.from_folder(folder)
    if data is None:
        return preprocessor.process(example_wav(60.0), "thorough").log_mel
    found: list[npt.NDArray[Any]] = []
    for path in walk_files(data).paths:
        try:
            found.append(preprocessor.process(Path(path).read_bytes(), "balanced").log_mel)
        except AcousticError:
            continue
        if sum(map(len, found)) >= N_WINDOWS:
            break
    return np.concatenate(found)[:N_WINDOWS]


def probabilities(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Softmax of each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def measure(
    models: dict[str, Classifier], windows: npt.NDArray[Any], runs: int
) -> dict[str, dict[str, Any]]:
    """CPU ms per window at every size, and differences from eager float32."""
    times: dict[str, dict[int, list[float]]] = {
        name: {size: [] for size in SIZES} for name in models
    }
    for size in SIZES:
        batch = np.resize(windows, (size, *windows.shape[1:]))
        for run in range(runs + 1):
            for name, model in models.items():
                begun_s = time.process_time()
                model.engine.outputs(batch)
                if run:  # the first one is not counted
                    times[name][size].append((time.process_time() - begun_s) * 1e3 / size)
    exact = probabilities(models["eager fp32"].engine.logits(windows))
    rows: dict[str, dict[str, Any]] = {}
    for name, model in models.items():
        found = probabilities(model.engine.logits(windows))
        rows[name] = {
            "cpu_ms": {
                size: round(statistics.median(each), 2) for size, each in times[name].items()
            },
            "max_difference": round(float(np.abs(found - exact).max()), 5),
            "same_best": round(float((found.argmax(1) == exact.argmax(1)).mean()), 4),
        }
    return rows


def main() -> None:
    """Measure, print, write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--checkpoint", type=Path, default=built_in(DEFAULT_CHECKPOINT))
    arguments = parser.parse_args()
    folder = CheckpointFolder.open(arguments.checkpoint)
    windows = collect_windows(folder, arguments.data)
    with tempfile.TemporaryDirectory() as cache:
        load_s, models = {}, {}
        for name, config in ways(cache).items():
            begun_s = time.process_time()
            models[name] = Classifier.from_folder(folder, config)
            load_s[name] = round(time.process_time() - begun_s, 2)
        rows = measure(models, windows, arguments.runs)
    sizes = [f"{size} at a time" for size in SIZES]
    header = ["way", *sizes, "largest difference", "same best genre", "load, CPU s"]
    table = [
        [name, *(f"{row['cpu_ms'][size]:.1f}" for size in SIZES), f"{row['max_difference']:.4f}",
         f"{row['same_best']:.1%}", f"{load_s[name]:.1f}"]
        for name, row in rows.items()
    ]  # fmt: skip
    manifest = folder.manifest
    body = (
        f"CPU ms per window of {manifest.name} {manifest.version} ({manifest.digest}) on one "
        "thread, by the number of windows in a call; differences from eager fp32 over "
        f"{len(windows)} windows of {'music' if arguments.data else 'a made-up sound'}.\n\n"
    )
    write_section("Engine", COMMAND, body + markdown_table(header, table))
    document = {
        "benchmark": "engine", "digest": manifest.digest, "windows": len(windows),
        "load_cpu_s": load_s, "results": rows,
    }  # fmt: skip
    print(json.dumps(document))


if __name__ == "__main__":
    main()
