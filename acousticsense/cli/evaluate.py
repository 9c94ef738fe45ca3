"""`acousticsense evaluate`: a report card of a checkpoint on held-out recordings."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from acousticsense.cli.data_options import (
    DEFAULT_VALID_RATIO,
    Collection,
    Data,
    NotMusic,
    Seed,
    Threads,
    ValidRatio,
    n_threads,
)
from acousticsense.cli.options import (
    log_to_stderr,
    quiet_decoders,
    readable_errors,
    require,
    settings,
)

PICTURES = "evaluation"


CheckpointValue = Annotated[Path, typer.Argument(help="Checkpoint folder, calibrated.")]
Out = Annotated[Path, typer.Option(help="Folder for evaluation.json, .md and pictures.")]
Coverage = Annotated[float, typer.Option(help="Coverage of the prediction sets.")]
Baselines = Annotated[bool, typer.Option(help="Fit the baselines as well.")]
CnnCrops = Annotated[int, typer.Option(min=0, help="Crops for the small CNN; 0 leaves it out.")]
Corruptions = Annotated[bool, typer.Option(help="Run the corruption grid and the faults.")]
FaultCases = Annotated[
    int, typer.Option(min=1, help="Cases made per fault, to see whether it raises its reason.")
]
LeaveOut = Annotated[
    bool,
    typer.Option(
        "--leave-collection-out",
        help="Answer each unseen collection with a calibration fitted on all others; list them.",
    ),
]
Claims = Annotated[bool, typer.Option("--claims", hidden=True)]
Card = Annotated[bool, typer.Option(help="Write the model card too.")]
About = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, help="With --card: Markdown on the data's source, licence."
    ),
]


def evaluate(
    checkpoint: CheckpointValue,
    data: Data,
    out: Out,
    not_music: NotMusic = None,
    coverage: Coverage = 0.9,
    baselines: Baselines = True,
    cnn_crops: CnnCrops = 60_000,
    corruptions: Corruptions = True,
    fault_cases: FaultCases = 200,
    leave_collection_out: LeaveOut = False,
    claims: Claims = False,
    card: Card = False,
    about: About = None,
    valid_ratio: ValidRatio = DEFAULT_VALID_RATIO,
    seed: Seed = 0,
    collection: Collection = None,
    threads: Threads = None,
) -> None:
    """Measure accuracy, calibration, sets, robustness and outliers, beside baselines."""
    if about and not card:
        raise typer.BadParameter("--about is for the model card: add --card")
    if claims:
        raise typer.BadParameter("the claims moved to the checkout: make claims DATA=FOLDER")
    require("train")
    log_to_stderr(logging.INFO)
    with readable_errors(), quiet_decoders():
        from acoustic.checkpoint_folder import CARD_FILE, TRAINING_FILE, CheckpointFolder
        from acoustic.data.dataset import read_dataset
        from acoustic.data.groups import trained_groups
        from acoustic.data.outliers import read_outliers
        from acoustic.evaluation.card import write_card
        from acoustic.evaluation.evaluate import EvaluationConfig
        from acoustic.evaluation.evaluate import evaluate as measure
        from acoustic.postprocess.calibration import load_calibration

        with settings():
            wanted = EvaluationConfig(
                coverage=coverage, with_baselines=baselines, with_corruptions=corruptions,
                cnn_crops=cnn_crops, fault_cases=fault_cases,
                leave_collection_out=leave_collection_out, n_threads=n_threads(threads),
            )  # fmt: skip
        folder = CheckpointFolder.open(checkpoint)
        training = folder.read_json(TRAINING_FILE) if card else {}
        about_data = about.read_text(encoding="utf-8") if about else ""
        dataset = read_dataset(
            data, folder.mel, labels=folder.labels, valid_ratio=valid_ratio, seed=seed,
            collection=collection, trained_groups=trained_groups(folder), is_held_out=True,
        )  # fmt: skip
        outliers = read_outliers(not_music, folder.mel, "valid") if not_music else []
        report = measure(folder, dataset, outliers, wanted)
        _write_report(report, out)
        if card:
            text = write_card(
                folder.manifest, training, load_calibration(folder), report, about_data
            )
            (checkpoint / CARD_FILE).write_text(text, encoding="utf-8")
    _say("collections not trained on", report["collections"]["unseen"])
    _say("collections trained on, other artists", report["collections"]["seen"])
    for name, part in report["sources"].items():
        _say(f"data set {name}", part)
    typer.echo(report["collections"]["summary"])
    typer.echo(f"{out / 'evaluation.md'}")


def _say(what: str, part: dict[str, Any] | None) -> None:
    if part is None:
        return
    value = part["accuracy"]
    interval = f"{value['low']:.3f}–{value['high']:.3f}"
    typer.echo(f"{what}: {part['n_tracks']} tracks, accuracy {value['value']:.3f} ({interval})")


def _write_report(report: dict[str, Any], out: Path) -> None:
    """evaluation.json, evaluation.md and its pictures."""
    from acoustic.evaluation.page import write_page
    from acoustic.evaluation.pictures import draw_pictures

    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False)
    (out / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    pictures = draw_pictures(report, out / PICTURES)
    page = write_page(report, [f"{PICTURES}/{name}" for name in pictures])
    (out / "evaluation.md").write_text(page, encoding="utf-8")
