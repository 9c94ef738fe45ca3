"""`acousticsense evaluate`: a report card of a checkpoint on held-out recordings."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from acousticsense.options import log_to_stderr, quiet_decoders, readable_errors, settings
from acousticsense.train import DEFAULT_VALID_RATIO, Data, NotMusic, Seed, Threads, ValidRatio

PICTURES = "evaluation"
SEED_RULES = Path(__file__).resolve().parent.parent / "configs" / "rules-seed.yaml"


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder, calibrated.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for evaluation.json, .md and pictures.")],
    not_music: NotMusic = None,
    coverage: Annotated[float, typer.Option(help="Of the prediction sets.")] = 0.9,
    baselines: Annotated[bool, typer.Option(help="Fit the baselines as well.")] = True,
    cnn_crops: Annotated[
        int, typer.Option(min=0, help="Crops for the small CNN; 0 leaves it out.")
    ] = 60_000,
    claims: Annotated[
        bool, typer.Option(help="Re-test the guide's claims instead, into claims.md.")
    ] = False,
    without_noise: Annotated[
        Path | None,
        typer.Option(help="With --claims: a checkpoint trained with --no-noise, to compare."),
    ] = None,
    corruptions: Annotated[
        bool, typer.Option(help="Run the corruption grid and the faults.")
    ] = True,
    fault_cases: Annotated[
        int, typer.Option(min=1, help="Made per fault, to see whether it raises its reason.")
    ] = 200,
    card: Annotated[bool, typer.Option(help="Write the model card too.")] = False,
    about: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="With --card: Markdown on the data's source, licence."
        ),
    ] = None,
    valid_ratio: ValidRatio = DEFAULT_VALID_RATIO,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Measure accuracy, calibration, sets, robustness and outliers, beside baselines."""
    if about and not card:
        raise typer.BadParameter("--about is for the model card: add --card")
    if without_noise and not claims:
        raise typer.BadParameter("--without-noise is for the claims: add --claims")
    if claims and card:
        raise typer.BadParameter("the model card is written by an evaluation without --claims")
    log_to_stderr(logging.INFO)
    if claims:
        _write_claims(checkpoint, without_noise, data, not_music, out, valid_ratio, seed)
        return
    with readable_errors(), quiet_decoders():
        import os

        from acoustic.evaluation.card import write_card
        from acoustic.evaluation.evaluate import EvaluationConfig
        from acoustic.evaluation.evaluate import evaluate as measure
        from acoustic.evaluation.markdown import write_page
        from acoustic.evaluation.pictures import draw_pictures
        from acoustic.manifest import CARD_FILE, FACTS_FILE, load_json, load_manifest
        from acoustic.postprocess.calibration import load_calibration
        from acoustic.training.dataset import read_dataset
        from acoustic.training.outliers import read_outliers

        with settings():
            config = EvaluationConfig(
                coverage=coverage,
                with_baselines=baselines,
                with_corruptions=corruptions,
                cnn_crops=cnn_crops,
                fault_cases=fault_cases,
                n_threads=threads or os.cpu_count() or 1,
            )
        manifest = load_manifest(checkpoint)
        facts = load_json(checkpoint, FACTS_FILE) if card else {}
        told = about.read_text(encoding="utf-8") if about else ""
        dataset = read_dataset(
            data, manifest.mel, labels=manifest.labels, valid_ratio=valid_ratio, seed=seed
        )
        outliers = read_outliers(not_music, manifest.mel, "valid") if not_music else []
        report = measure(checkpoint, dataset, outliers, config)
        _write_json(report, out / "evaluation.json")
        page = write_page(report, _draw(draw_pictures, report, out / PICTURES))
        (out / "evaluation.md").write_text(page, encoding="utf-8")
        if card:
            calibration = load_calibration(checkpoint, manifest.digest)
            text = write_card(manifest, facts, calibration, report, told)
            (checkpoint / CARD_FILE).write_text(text, encoding="utf-8")
    for name, part in report["sources"].items():
        value = part["accuracy"]
        typer.echo(
            f"{name}: accuracy {value['value']:.3f} ({value['low']:.3f}–{value['high']:.3f})"
        )
    typer.echo(f"{out / 'evaluation.md'}")


def _write_claims(
    checkpoint: Path,
    without_noise: Path | None,
    data: list[Path],
    not_music: Path | None,
    out: Path,
    valid_ratio: float,
    seed: int,
) -> None:
    with readable_errors(), quiet_decoders():
        from acoustic.evaluation.claims_page import write_claims
        from acoustic.evaluation.claims_pictures import draw_claims
        from acoustic.evaluation.retest import Models, retest
        from acoustic.manifest import load_manifest
        from acoustic.training.dataset import read_dataset
        from acoustic.training.outliers import read_outliers
        from deployments.config import load_rules

        manifest = load_manifest(checkpoint)
        dataset = read_dataset(
            data, manifest.mel, labels=manifest.labels, valid_ratio=valid_ratio, seed=seed
        )
        outliers = read_outliers(not_music, manifest.mel, "valid") if not_music else []
        models = Models(folder=checkpoint, without_noise=without_noise)
        report = retest(models, dataset, outliers, load_rules(SEED_RULES))
        _write_json(report, out / "claims.json")
        page = write_claims(report, _draw(draw_claims, report, out / "claims"))
        (out / "claims.md").write_text(page, encoding="utf-8")
    for each in report["claims"]:
        if each["claimed"] is not None:
            effect = each["effect"]["value"]
            typer.echo(f"{each['technique']}, {each['setting']}: {effect:+.3f}, {each['verdict']}")
    typer.echo(f"{out / 'claims.md'}")


def _write_json(report: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _draw(
    draw: Callable[[dict[str, Any], Path], list[str]], report: dict[str, Any], folder: Path
) -> list[str]:
    try:
        return [f"{folder.name}/{name}" for name in draw(report, folder)]
    except ImportError:
        typer.echo("no pictures: they need the extra acousticsense[plots]", err=True)
        return []
