"""CPU time of published audio transformers: this library against transformers' own pipeline.

    OMP_NUM_THREADS=1 python -m benchmarks.public_models [--runs N] [--small]

Random weights in the sizes of AST (10.24 s) and of MAEST with 10 s, saved by transformers in the
layout of the hub and imported from there. Interleaved in one process on one thread: transformers'
feature extractor and model, or for MAEST, whose extractor is remote code, its formula and the same
model, against stage 1 from samples (front end) and stage 2 (engine) of this library, one track at a
time and eight. Medians of process CPU time per 10 s of audio; the error columns are the largest
difference of a feature and of a logit in FP32.

`--small` runs two layers of width 64, to try the script.
The result goes into docs/models.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.checkpoint import Checkpoint, load_checkpoint
from acoustic.classify.engine import Engine, cpu_has_bf16
from acoustic.classify.engine_config import EngineConfig, Precision
from acoustic.preprocess.mel import MelSpectrogram, model_values
from benchmarks.document import markdown_table, write_section
from benchmarks.hub_models import ast_input, label_list, maest_input, save_ast, save_maest, tiny_ast
from deployments.built_in import CHECKOUT
from deployments.importing import import_checkpoint

COMMAND = "OMP_NUM_THREADS=1 python -m benchmarks.public_models"
FULL = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "initializer_range": 0.02,
}  # fmt: skip
SMALL: dict[str, Any] = {}
RATE, SECONDS, N_TRACKS = 16_000, 10.0, 8
Samples = npt.NDArray[np.float32]


class Contender:
    """One published model, both ways.

    Args:
        name: for the table.
        folder: hub folder, and where the checkpoint goes.
        sizes: of its network.
    """

    def __init__(self, name: str, folder: Path, sizes: dict[str, Any]) -> None:
        self.name = name
        self._is_ast = name == "AST"
        labels = label_list("audioset_527" if self._is_ast else "discogs_400")
        self._shape = (128, 1024) if self._is_ast else (96, 626)
        self._theirs = tiny_ast(
            labels, **sizes, num_mel_bins=self._shape[0], max_length=self._shape[1]
        )
        save = save_ast if self._is_ast else save_maest
        begun_s = time.perf_counter()
        import_checkpoint(str(save(folder / "hub", self._theirs)), folder / "out")
        self.import_s = time.perf_counter() - begun_s
        self.checkpoint: Checkpoint = load_checkpoint(CheckpointFolder.open(folder / "out"))
        self._spectrogram = MelSpectrogram(self.checkpoint.manifest.mel)
        self._engines = {p: self._engine(folder / "out", p) for p in precisions()}

    def _engine(self, folder: Path, precision: Precision) -> Engine:
        loaded = load_checkpoint(CheckpointFolder.open(folder))  # the engine converts its weights
        config = EngineConfig(accelerator="cpu", precision=precision)
        return Engine(loaded.model, loaded.scaling, self._shape, config)

    def theirs(self, tracks: list[Samples]) -> npt.NDArray[np.float32]:
        """Logits by transformers."""
        make = ast_input if self._is_ast else maest_input
        inputs = torch.cat([make(track, *self._shape) for track in tracks])
        with torch.inference_mode():
            found: npt.NDArray[np.float32] = self._theirs(inputs).logits.numpy()
        return found

    def ours(self, tracks: list[Samples], precision: Precision) -> npt.NDArray[np.float32]:
        """Logits by this library, over the model's own labels."""
        spectrogram = self._spectrogram
        windows = np.stack([model_values(spectrogram, spectrogram.power(each)) for each in tracks])
        return self._engines[precision].logits(windows)

    def errors(self, track: Samples) -> tuple[float, float]:
        """Largest difference of a feature before float16, and of a logit on the same features."""
        make = ast_input if self._is_ast else maest_input
        wanted = make(track, *self._shape)
        values = self._spectrogram(track)
        padded = np.pad(values, ((0, 0), (0, self._shape[1] - values.shape[1])))
        ours = self.checkpoint.scaling.apply(torch.from_numpy(padded)[None])
        with torch.inference_mode():
            logits = self.checkpoint.model(wanted.transpose(1, 2)[:, None])
            expected = self._theirs(wanted).logits
        return (
            float((ours[0, 0] - wanted[0].T).abs().max()),
            float((logits - expected).abs().max()),
        )


def precisions() -> list[Precision]:
    """FP32, and BF16 where the CPU has it."""
    return ["fp32", "bf16"] if cpu_has_bf16() else ["fp32"]


def cpu_ms(work: Callable[[], object]) -> float:
    """Process CPU time of one call, ms."""
    begun_s = time.process_time()
    work()
    return (time.process_time() - begun_s) * 1e3


def measure(contender: Contender, tracks: list[Samples], runs: int) -> dict[str, Any]:
    """Medians of CPU ms per 10 s of audio, interleaved."""
    ways: dict[str, Callable[[], object]] = {}
    for n in (1, N_TRACKS):
        some = tracks[:n]
        ways[f"transformers {n}"] = lambda some=some: contender.theirs(some)  # type: ignore[misc]
        for precision in precisions():
            ways[f"{precision} {n}"] = lambda some=some, precision=precision: contender.ours(  # type: ignore[misc]
                some, precision
            )
    for work in ways.values():
        work()
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, work in ways.items():
            found[name].append(cpu_ms(work) / int(name.split()[1]))
    feature_error, logit_error = contender.errors(tracks[0])
    return {
        "model": contender.name,
        "cpu_ms_per_10_s": {name: round(statistics.median(v), 1) for name, v in found.items()},
        "feature_error": feature_error,
        "logit_error": logit_error,
        "import_s": round(contender.import_s, 1),
    }


def main() -> None:
    """Measure both models and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    tracks = [rng.normal(0, 0.2, round(SECONDS * RATE)).astype(np.float32) for _ in range(N_TRACKS)]
    results = []
    for name in ("AST", "MAEST, 10 s"):
        with tempfile.TemporaryDirectory() as folder:
            contender = Contender(name, Path(folder), SMALL if arguments.small else FULL)
            results.append(measure(contender, tracks, arguments.runs))
    report = {
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "runs": arguments.runs,
        "models": results,
    }
    if not arguments.small:
        _write(results)
    print(json.dumps(report))


def _write(results: list[dict[str, Any]]) -> None:
    names = [*precisions()]
    header = ["model", "tracks at a time", "transformers, FP32", *(f"here, {p}" for p in names)]
    rows = []
    for each in results:
        ms = each["cpu_ms_per_10_s"]
        for n in (1, N_TRACKS):
            theirs = ms[f"transformers {n}"]
            ours = (f"{ms[f'{p} {n}']:.0f} ({theirs / ms[f'{p} {n}']:.1f} ×)" for p in names)
            rows.append([each["model"], str(n), f"{theirs:.0f}", *ours])
    errors = [
        f"{each['model']}: largest difference of a feature {each['feature_error']:.1e}, of a logit "
        f"in FP32 {each['logit_error']:.1e}; imported in {each['import_s']} s."
        for each in results
    ]
    body = "CPU milliseconds per 10 s of audio on one core, from samples to logits; in brackets: "
    body += "how many times less.\n\n" + markdown_table(header, rows) + "\n\n" + "\n".join(errors)
    page = CHECKOUT / "docs" / "models.md"
    write_section("Cost", COMMAND, body, page)


if __name__ == "__main__":
    main()
