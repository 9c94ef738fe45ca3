"""What each part of the training recipe is worth: short trainings that differ in one thing.

    python -m benchmarks.recipe DATA [--crops 24000] [--jobs 2] [--only base,adamw]

DATA holds gtzan_mel, music and ood. Every variant sees the same number of crops with one seed on
one thread and is calibrated by cross-fitting on the valid tracks. The columns are NLL and accuracy
on valid tracks that are counted once, the accuracy on each data set, the AUROC of other sounds,
and for noise the accuracy of tracks with audio at 5 dB SNR and below, and the CPU time. Results
are kept in docs/recipe.json, so that single variants can be run again; docs/recipe.md is written
from it.
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

from benchmarks.document import markdown_table

DOCS = Path(__file__).resolve().parent.parent / "docs"
RESULTS, PAGE = DOCS / "recipe.json", DOCS / "recipe.md"

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
    "conv": ("plain conv stem", lambda job: replace(job, variant="vit_nano_conv")),
    "bare": ("no head on window statistics", lambda job: replace(job, variant="vit_nano_bare")),
    "window-3": ("windows of 3.3 s", _window(80)),
    "window-9": ("windows of 9.3 s", _window(224)),  # most excerpts have 10 s and no more
    "pcen": ("PCEN instead of dB", lambda job: replace(job, features="pcen")),
    "no-noise": ("no noise", _augment(noise_probability=0.0)),
    "no-outliers": ("no sounds other than music", lambda job: job),
    "no-low-pass": ("no random low-pass", _augment(low_pass_probability=0.0)),
    "no-equaliser": ("no equaliser", _augment(equaliser_db=0.0)),
    "no-blur": ("no blur", _augment(blur=(0.0, 0.0))),
    "no-masks": ("no SpecAugment", _augment(mask_bands=0, mask_frames=0)),
    "no-mixup": ("no mixup", _batches(mixup_alpha=0.0)),
    "no-balance": ("genres as often as they come", _batches(balance=1.0)),
    "no-dropout": ("no patch dropout", _recipe(patch_dropout=0.0)),
    "pretrained": ("after as many crops of masked autoencoding", lambda job: _pretrained(job)),
}


def _pretrained(job: Any) -> Any:
    return replace(job, recipe=replace(job.recipe, pretrain_crops=job.recipe.n_crops))


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
            PAGE.write_text(_page(results), encoding="utf-8")
    print(json.dumps(results))


def _run(name: str, data: Path, n_crops: int) -> dict[str, Any]:
    import torch

    from acoustic.preprocess.mel import MelConfig
    from acoustic.training.dataset import read_dataset
    from acoustic.training.outliers import read_outliers
    from acoustic.training.run import Job, train_checkpoint
    from acoustic.training.train import Recipe, native_precision

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
    from acoustic.classify.checkpoint import load_checkpoint
    from acoustic.evaluation.evaluate import EvaluationConfig, evaluate
    from acoustic.postprocess.calibration import save_calibration
    from acoustic.training.calibrate import CalibrationConfig, fit_calibration
    from acoustic.training.dataset import read_dataset
    from acoustic.training.outliers import read_outliers
    from acoustic.training.tracks import hear, open_engine, without_repeats

    dataset = read_dataset([data / "gtzan_mel", data / "music"], job.mel)
    checkpoint = load_checkpoint(job.out)
    tracks = hear(open_engine(checkpoint, 1), without_repeats(dataset.split("valid")))
    fitted = fit_calibration(
        tracks, checkpoint.manifest.digest, dataset.labels.names, CalibrationConfig()
    )
    save_calibration(job.out, fitted)
    report = evaluate(
        job.out,
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
    for name, (title, _) in VARIANTS.items():
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
        "AUROC of other sounds", "same genre by audio and picture", "accuracy in loud noise",
        "CPU minutes",
    ]  # fmt: skip
    return (
        "# What each part of the recipe is worth\n\nWritten by `python -m benchmarks.recipe`. "
        "Short trainings that differ in one thing; valid tracks, ten windows, cross-fitted "
        "temperature, 95 % bootstrap intervals over tracks. One seed each, so that small "
        "differences mean nothing.\n\n" + markdown_table(header, rows) + "\n"
    )


def _interval(value: dict[str, float]) -> str:
    return f"{value['value']:.3f} ({value['low']:.3f}–{value['high']:.3f})"


if __name__ == "__main__":
    main()
