"""`acousticsense calibrate`: fit stage 3 of a checkpoint on held-out recordings."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from acousticsense.cli.data_options import (
    DEFAULT_VALID_RATIO,
    Collection,
    Data,
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


def calibrate(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
    data: Data,
    review_accuracy: Annotated[
        float, typer.Option(help="Accuracy wanted among the answers that nobody reviews.")
    ] = 0.8,
    floor: Annotated[bool, typer.Option(help="Fit a probability floor as well.")] = False,
    valid_ratio: ValidRatio = DEFAULT_VALID_RATIO,
    seed: Seed = 0,
    collection: Collection = None,
    threads: Threads = None,
) -> None:
    """Fit temperatures, prediction sets, review and other limits on the valid split.

    Writes calibration.json into the checkpoint, and neighbours.safetensors from what it was
    trained on.
    """
    require("train")
    log_to_stderr(logging.WARNING)
    with readable_errors(), quiet_decoders():
        fit(
            checkpoint, data, review_accuracy=review_accuracy, floor=floor,
            valid_ratio=valid_ratio, seed=seed, collection=collection, threads=threads,
        )  # fmt: skip


def fit(
    checkpoint: Path,
    data: list[Path],
    *,
    review_accuracy: float = 0.8,
    floor: bool = False,
    valid_ratio: float = DEFAULT_VALID_RATIO,
    seed: int = 0,
    collection: str | None = None,
    threads: int | None = None,
) -> None:
    """Fit and write the calibration of a checkpoint, and say what was fitted.

    Raises:
        AcousticError: the checkpoint or the data cannot be used.
    """
    from acoustic.classify.neighbours import save_neighbours
    from acoustic.data.unseen import report_unseen, trained_collections
    from acoustic.fitting.calibrate import CalibrationConfig, fit_calibration, fit_config
    from acoustic.fitting.held_out import open_held_out
    from acoustic.fitting.references import find_references
    from acoustic.fitting.tracks import evaluate_clips
    from acoustic.pipeline import write_golden
    from acoustic.postprocess.calibration import save_calibration

    with settings():
        CalibrationConfig(review_accuracy=review_accuracy)  # refused before anything is read
    held_out = open_held_out(
        checkpoint, data, valid_ratio=valid_ratio, seed=seed, n_threads=n_threads(threads),
        collection=collection,
    )  # fmt: skip
    folder, engine = held_out.checkpoint.folder, held_out.engine
    neighbours = find_references(folder, engine, held_out.train)
    trained = trained_collections(folder)
    tracks = evaluate_clips(engine, held_out.valid, neighbours, trained)
    report_unseen([clip.collection for clip in held_out.valid], trained)
    config = fit_config(folder, review_accuracy=review_accuracy, with_floor=floor)
    fitted = fit_calibration(tracks, folder.digest, folder.labels, config)
    if neighbours is not None:
        save_neighbours(checkpoint, neighbours, folder.digest)
    save_calibration(checkpoint, fitted)
    write_golden(checkpoint)
    for n, each in fitted.windows.items():
        typer.echo(
            f"{n} windows: temperature {each.temperature:.3f}, NLL {each.nll:.3f}, review below "
            f"{each.review_threshold:.2f} for accuracy {review_accuracy}"
        )
    typer.echo(f"{checkpoint}: calibrated on {fitted.dataset}")
