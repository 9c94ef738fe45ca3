"""`acousticsense calibrate`: fit stage 3 of a checkpoint on held-out recordings."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from acousticsense.options import log_to_stderr, quiet_decoders, readable_errors, settings
from acousticsense.train import DEFAULT_VALID_RATIO, Data, Seed, Threads, ValidRatio


def calibrate(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder.")],
    data: Data,
    review_accuracy: Annotated[
        float, typer.Option(help="Accuracy wanted among the answers that nobody reviews.")
    ] = 0.8,
    floor: Annotated[bool, typer.Option(help="Fit a probability floor as well.")] = False,
    valid_ratio: ValidRatio = DEFAULT_VALID_RATIO,
    seed: Seed = 0,
    threads: Threads = None,
) -> None:
    """Fit temperatures, prediction sets, review and other limits on the valid split.

    Writes calibration.json into the checkpoint, and neighbours.safetensors from what it was
    trained on.
    """
    log_to_stderr(logging.WARNING)
    with readable_errors(), quiet_decoders():
        import os

        from acoustic.classify.checkpoint import load_checkpoint
        from acoustic.classify.neighbours import save_neighbours
        from acoustic.postprocess.calibration import save_calibration
        from acoustic.training.calibrate import CalibrationConfig, fit_calibration
        from acoustic.training.dataset import read_dataset
        from acoustic.training.references import find_references
        from acoustic.training.tracks import (
            hear,
            open_engine,
            refuse_trained_on,
            without_repeats,
        )

        with settings():
            config = CalibrationConfig(review_accuracy=review_accuracy, with_floor=floor)
        loaded = load_checkpoint(checkpoint)
        manifest = loaded.manifest
        dataset = read_dataset(
            data, manifest.mel, labels=manifest.labels, valid_ratio=valid_ratio, seed=seed
        )
        engine = open_engine(loaded, threads or os.cpu_count() or 1)
        valid = without_repeats(dataset.split("valid"))
        refuse_trained_on(checkpoint, valid)
        train = without_repeats(dataset.split("train"))
        neighbours = find_references(checkpoint, engine, manifest.digest, train)
        tracks = hear(engine, valid, neighbours)
        fitted = fit_calibration(tracks, manifest.digest, manifest.labels.names, config)
        if neighbours is not None:
            save_neighbours(checkpoint, neighbours, manifest.digest)
        save_calibration(checkpoint, fitted)
    for n, temperature in fitted.temperatures.items():
        typer.echo(
            f"{n} windows: temperature {temperature:.3f}, NLL {fitted.nll[n]:.3f}, review below "
            f"{fitted.review_thresholds[n]:.2f} for accuracy {review_accuracy}"
        )
    typer.echo(f"{checkpoint}: calibrated on {fitted.n_tracks} tracks")
