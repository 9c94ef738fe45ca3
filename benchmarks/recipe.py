"""Ablation of the training recipe: short training runs that each differ in one part.

    python -m benchmarks.recipe DATA [--crops 24000] [--jobs 2] [--only base,adamw]

DATA holds gtzan_mel, music and ood. Every variant is trained on the same number of crops with one
random seed on one thread and is calibrated by cross-fitting on the valid tracks. The columns are
NLL and accuracy on valid tracks (repeated recordings count once), the accuracy on each data set,
the AUROC of non-music audio, the accuracy of tracks with audio at 5 dB SNR and below (base and
no-noise only), and the CPU time. Results are kept in docs/recipe.json, so that single variants can
be run again; a section of docs/recipe.md is written from it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.document import markdown_table, write_section

DOCS = Path(__file__).resolve().parent.parent / "docs"
RESULTS, PAGE = DOCS / "recipe.json", DOCS / "recipe.md"
TITLE = "vit_nano, from scratch"

Change = Callable[[Any], Any]


def _recipe(**changes: Any) -> Change:
    return lambda job: replace(job, recipe=replace(job.recipe, **changes))


def _batches(**changes: Any) -> Change:
    def change(job: Any) -> Any:
        batches = replace(job.recipe.batches, **changes)
        return replace(job, recipe=replace(job.recipe, batches=batches))

    return change


def _augment(**changes: Any) -> Change:
    def change(job: Any) -> Any:
        return _batches(augment=replace(job.recipe.batches.augment, **changes))(job)

    return change


def _optimiser(**changes: Any) -> Change:
    def change(job: Any) -> Any:
        optimiser = replace(job.recipe.optimiser, **changes)
        return replace(job, recipe=replace(job.recipe, optimiser=optimiser))

    return change


def _window(n_frames: int) -> Change:
    return lambda job: replace(job, mel=replace(job.mel, n_frames=n_frames))


VARIANTS: dict[str, tuple[str, Change]] = {
    "base": ("the recipe", lambda job: job),
    "adamw": ("AdamW alone instead of Muon for the blocks", _optimiser(name="adamw")),
    "window-3": ("windows of 3.3 s", _window(80)),
    "window-9": ("windows of 9.3 s", _window(224)),  # most excerpts last only 10 s
    "no-noise": ("no noise", _augment(noise_probability=0.0)),
    "no-outliers": ("no non-music audio", lambda job: job),
    "no-low-pass": ("no random low-pass", _augment(low_pass_probability=0.0)),
    "no-equaliser": ("no equaliser", _augment(equaliser_db=0.0)),
    "no-blur": ("no blur", _augment(blur=(0.0, 0.0))),
    "no-masks": ("no SpecAugment", _augment(mask_band_ratio=0.0, mask_frame_ratio=0.0)),
    "no-mixup": ("no mixup", _batches(mixup_alpha=0.0)),
    "no-balance": ("no balancing of genres", _batches(balance=1.0)),
    "no-dropout": ("no patch dropout", _recipe(patch_dropout=0.0)),
}

REMOVED = {
    "conv": "plain conv stem (removed)",
    "bare": "no head on window statistics (removed)",
    "pcen": "PCEN instead of dB (removed)",
    "pretrained": "after as many crops of masked autoencoding (removed)",
}
"""Measured by release 0.2.0 and removed from the product since; their results stay."""


def main() -> None:
    """Run the variants and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--crops", type=int, default=24_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default=",".join(VARIANTS))
    arguments = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        names = arguments.only.split(",")
        running = {n: pool.submit(_run, n, arguments.data, arguments.crops) for n in names}
        for name, future in running.items():
            results[name] = future.result()
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            write_section(TITLE, "python -m benchmarks.recipe DATA", _page(results), PAGE)
    print(json.dumps(results))


def _run(name: str, data: Path, n_crops: int) -> dict[str, Any]:
    import torch

    from acoustic.data.dataset import read_dataset
    from acoustic.data.outliers import read_outliers
    from acoustic.geometry import MelConfig
    from acoustic.training.job import Job, train_checkpoint
    from acoustic.training.trainer import Recipe, native_precision

    torch.set_num_threads(1)
    recipe = Recipe(n_crops=n_crops, precision=native_precision("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        job: Job = VARIANTS[name][1](
            Job(
                out=Path(folder),
                name=name,
                version="0",
                variant="vit_nano",
                mel=MelConfig(),
                start_from=None,
                recipe=recipe,
                device="cpu",
            )
        )
        dataset = read_dataset([data / "gtzan_mel", data / "music"], job.mel)
        sounds = [] if name == "no-outliers" else read_outliers(data / "ood", job.mel, "train")
        begun_s = time.process_time()
        train_checkpoint(dataset, sounds, job)
        cpu_minutes = (time.process_time() - begun_s) / 60
        return {"crops": n_crops, "cpu_minutes": round(cpu_minutes, 1), **_measure(job, data)}


def _measure(job: Any, data: Path) -> dict[str, Any]:
    from acoustic.checkpoint_folder import CheckpointFolder
    from acoustic.classify.checkpoint import load_checkpoint
    from acoustic.data.dataset import read_dataset
    from acoustic.data.groups import without_repeats
    from acoustic.data.outliers import read_outliers
    from acoustic.evaluation.evaluate import EvaluationConfig, evaluate
    from acoustic.fitting.calibrate import CalibrationConfig, fit_calibration
    from acoustic.fitting.tracks import evaluate_clips, open_engine
    from acoustic.postprocess.calibration import save_calibration

    dataset = read_dataset([data / "gtzan_mel", data / "music"], job.mel)
    folder = CheckpointFolder.open(job.out)
    checkpoint = load_checkpoint(folder)
    tracks = evaluate_clips(open_engine(checkpoint, 1), without_repeats(dataset.split("valid")))
    fitted = fit_calibration(
        tracks, checkpoint.manifest.digest, dataset.labels, CalibrationConfig()
    )
    save_calibration(job.out, fitted)
    report = evaluate(
        folder,
        dataset,
        read_outliers(data / "ood", job.mel, "valid"),
        EvaluationConfig(with_baselines=False, with_corruptions=job.name in ("base", "no-noise")),
    )
    sounds = next(r for r in report["outliers"] if r["kind"] == "all")
    return {
        "nll": report["pooled"]["nll"],
        "accuracy": report["pooled"]["accuracy"],
        "sources": {name: part["accuracy"] for name, part in report["sources"].items()},
        "outliers": sounds["auroc"],
        "same_top_1": report["parity"]["same_top_1"],
        "loud_noise": report.get("robustness", {}).get("loud_noise_accuracy"),
    }


def _page(results: dict[str, Any]) -> str:
    base = results.get("base", {}).get("nll", {}).get("value")
    rows = []
    titles = {**{name: title for name, (title, _) in VARIANTS.items()}, **REMOVED}
    for name, title in titles.items():
        if name not in results:
            continue
        found = results[name]
        change = "" if base is None else f"{found['nll']['value'] - base:+.3f}"
        rows.append(
            [
                title,
                f"{found['crops']:,}",
                _interval(found["nll"]),
                change,
                _interval(found["accuracy"]),
                *(f"{value['value']:.3f}" for value in found["sources"].values()),
                f"{found['outliers']['value']:.3f}",
                f"{found['same_top_1']['value']:.2f}",
                "–" if found["loud_noise"] is None else f"{found['loud_noise']:.3f}",
                f"{found['cpu_minutes']:.0f}",
            ]
        )
    header = [
        "variant", "crops", "NLL", "against base", "accuracy", "gtzan_mel", "music",
        "AUROC of non-music audio", "same genre from audio and image", "accuracy in loud noise",
        "CPU minutes",
    ]  # fmt: skip
    return (
        "Short training runs that each differ in one part; valid tracks of other artists of known "
        "collections, ten windows, cross-fitted temperature, 95 % bootstrap intervals over tracks. "
        "One random seed each: small differences are not meaningful.\n\n"
        + markdown_table(header, rows)
    )


def _interval(value: dict[str, float]) -> str:
    return f"{value['value']:.3f} ({value['low']:.3f}–{value['high']:.3f})"


if __name__ == "__main__":
    main()
