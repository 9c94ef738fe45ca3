"""`acousticsense train`: labelled recordings in, a checkpoint folder out."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from acousticsense.cli.calibrate import fit
from acousticsense.cli.data_options import (
    DEFAULT_VALID_RATIO,
    Collection,
    Data,
    NotMusic,
    Threads,
    n_threads,
)
from acousticsense.cli.options import (
    log_to_stderr,
    quiet_decoders,
    readable_errors,
    require,
    settings,
)
from acousticsense.cli.train_job import make_job, refuse_existing
from acousticsense.cli.train_options import (
    Calibrate,
    CropsValue,
    Device,
    DeviceOption,
    GradientCheckpointing,
    LayerDecay,
    MaxMinutes,
    Musicnn,
    NameValue,
    Noise,
    Optimiser,
    Out,
    Overwrite,
    Probe,
    Resume,
    SeedValue,
    StartFrom,
    Trunk,
    Unfreeze,
    ValidRatioValue,
    Variant,
    VersionValue,
    WindowS,
)

if TYPE_CHECKING:
    from acoustic.data.dataset import Dataset
    from acoustic.training.job import Job
    from acoustic.training.watch import Report


def train(
    data: Data,
    out: Out,
    not_music: NotMusic = None,
    variant: Variant = None,
    trunk: Trunk = None,
    musicnn: Musicnn = None,
    window_s: WindowS = None,
    start_from: StartFrom = None,
    crops: CropsValue = None,
    max_minutes: MaxMinutes = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    valid_ratio: ValidRatioValue = DEFAULT_VALID_RATIO,
    noise: Noise = True,
    optimiser: Optimiser = None,
    layer_decay: LayerDecay = None,
    gradient_checkpointing: GradientCheckpointing = False,
    probe: Probe = False,
    unfreeze: Unfreeze = None,
    seed: SeedValue = 0,
    collection: Collection = None,
    device: Device = DeviceOption.AUTO,
    threads: Threads = None,
    calibrate: Calibrate = True,
    name: NameValue = "acousticsense",
    version: VersionValue = "1",
) -> None:
    """Fine-tune the built-in model, or train another, and calibrate it.

    Groups (artists, albums) and copies of a recording stay on one side of the split, and so do
    collections where there are ten or more. What cannot be read is listed.
    Calibration needs 20 tracks of the valid split; with fewer the checkpoint says "not calibrated"
    and gives no prediction sets.
    """
    require("train")
    log_to_stderr(logging.INFO)
    with readable_errors(), quiet_decoders():
        import torch

        refuse_existing(out, resume or overwrite)
        if threads:
            torch.set_num_threads(threads)
        with settings():
            job = make_job(
                out, start_from=start_from, variant=variant, trunk=trunk, musicnn=musicnn,
                window_s=window_s, device=device.value, name=name, version=version, resume=resume,
                crops=crops, max_minutes=max_minutes, noise=noise,
                optimiser=None if optimiser is None else optimiser.value,
                layer_decay=layer_decay, gradient_checkpointing=gradient_checkpointing, seed=seed,
                probe=probe, unfreeze=unfreeze, threads=n_threads(threads),
            )  # fmt: skip
        _train(job, data, not_music, valid_ratio, collection, threads, calibrate)


def _train(
    job: Job,
    data: list[Path],
    not_music: Path | None,
    valid_ratio: float,
    collection: str | None,
    threads: int | None,
    calibrate: bool,
) -> None:
    """Read the data, train, calibrate where there are enough tracks, and say what is next."""
    from acoustic.data.dataset import read_dataset
    from acoustic.data.groups import refuse_trained_on
    from acoustic.data.outliers import read_outliers
    from acoustic.pipeline import write_golden
    from acoustic.training.job import train_checkpoint

    out, seed = job.out, job.recipe.seed
    dataset = read_dataset(
        data, job.geometry, valid_ratio=valid_ratio, seed=seed, collection=collection,
        trained_groups=job.known_groups,
    )  # fmt: skip
    if job.start_from:
        refuse_trained_on(job.start_from.folder, dataset.split("valid"))
    can_calibrate = _say_what_is_there(dataset, job.known_collections)
    outliers = read_outliers(not_music, job.geometry, "train") if not_music else []
    with _interruptible(out):
        train_checkpoint(dataset, outliers, job, on_report=_print_report)
        write_golden(out)
        if calibrate and can_calibrate:
            fit(
                out,
                data,
                valid_ratio=valid_ratio,
                seed=seed,
                collection=collection,
                threads=threads,
            )
    done = "trained" if can_calibrate else "trained, not calibrated; with more recordings"
    options = [f"--collection {collection}"] if collection else []
    if (valid_ratio, seed) != (DEFAULT_VALID_RATIO, 0):
        options.append(f"--valid-ratio {valid_ratio:g} --seed {seed}")
    rest = _commands_left(out, data, options, calibrate and can_calibrate)
    typer.echo(f"{out}: {done}; next: {rest}")


def _say_what_is_there(dataset: Dataset, known_collections: Sequence[str]) -> bool:
    """Print how many tracks each split has; whether those of the valid split suffice."""
    from acoustic.data.groups import group_hash, without_repeats
    from acoustic.data.unseen import report_unseen
    from acoustic.fitting.calibrate import MIN_TRACKS

    train, valid = dataset.split("train"), without_repeats(dataset.split("valid"))
    suffices = len(valid) >= MIN_TRACKS
    need = f"calibration needs {MIN_TRACKS} valid tracks"
    typer.echo(
        f"{len(train)} tracks to train on, {len(valid)} valid tracks; {need}"
        + ("" if suffices else ": it is left out, the checkpoint will say so; add recordings"),
        err=True,
    )
    trained = {group_hash(clip.collection) for clip in train} | set(known_collections)
    typer.echo(report_unseen([clip.collection for clip in valid], trained), err=True)
    return suffices


def _commands_left(out: Path, data: list[Path], options: list[str], is_calibrated: bool) -> str:
    """The command that follows: evaluation, or before it calibration on the same split."""
    name = "evaluate" if is_calibrated else "calibrate"
    return " ".join(["acousticsense", name, str(out), *map(str, data), *options])


@contextmanager
def _interruptible(out: Path) -> Iterator[None]:
    """On Ctrl-C, say whether the training can be continued, and end with exit code 130."""
    from acoustic.training.watch import STATE_FILE

    try:
        yield
    except KeyboardInterrupt:
        can_resume = (out / STATE_FILE).exists()
        how = "rerun with --resume to continue" if can_resume else "nothing was saved"
        typer.echo(f"interrupted; {how}", err=True)
        raise typer.Exit(130) from None


def _print_report(report: Report) -> None:
    left_s = report.elapsed_s * (1 - report.progress) / report.progress
    accuracy = "" if report.accuracy is None else f"  valid accuracy {report.accuracy:.3f}"
    typer.echo(
        f"{report.progress:4.0%}  crops {report.n_crops:,}  loss {report.loss:.3f}{accuracy}  "
        f"{report.crops_per_s:.0f} crops/s  {left_s / 60:.0f} min left",
        err=True,
    )
