"""`acousticsense train`: labelled recordings in, a checkpoint folder out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acousticsense.cli.calibrate import fit
from acousticsense.cli.data_options import (
    DEFAULT_VALID_RATIO,
    Data,
    NotMusic,
    Threads,
)
from acousticsense.cli.options import (
    log_to_stderr,
    quiet_decoders,
    readable_errors,
    require,
    settings,
)

if TYPE_CHECKING:
    from acoustic.classify.engine_config import Accelerator
    from acoustic.data.dataset import Dataset
    from acoustic.geometry import MelConfig
    from acoustic.training.job import Job
    from acoustic.training.watch import Report

DEFAULT_VARIANT = "vit_nano"
DEFAULT_WINDOW_S = 6.0
WINDOW_MULTIPLE = 16
"""Frames of a window come in whole patches."""


class DeviceOption(StrEnum):
    """Where to train."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


class OptimiserOption(StrEnum):
    """What steps the blocks' matrices."""

    MUON = "muon"
    ADAMW = "adamw"


Out = Annotated[Path, typer.Option(help="Checkpoint folder to write.")]
Variant = Annotated[
    str | None, typer.Option(help="vit_nano (the default), vit_tiny, vit_small, vit_b_16.")
]
WindowS = Annotated[float | None, typer.Option(help="Length of one window, seconds; 6 by default.")]
StartFrom = Annotated[Path | None, typer.Option("--from", help="Checkpoint to fine-tune.")]
CropsValue = Annotated[int, typer.Option(min=1, help="Crops seen in all.")]
MaxMinutes = Annotated[
    float | None, typer.Option(help="Time limit; the schedule is shortened to fit.")
]
Resume = Annotated[bool, typer.Option(help="Continue an interrupted training.")]
Overwrite = Annotated[bool, typer.Option(help="Replace a checkpoint in --out.")]
ValidRatioValue = Annotated[
    float, typer.Option(help="Share held out, by group, where the data states no split.")
]
Noise = Annotated[bool, typer.Option(help="Add noise to some of the crops.")]
Optimiser = Annotated[
    OptimiserOption,
    typer.Option(
        help="Optimiser of the transformer blocks' matrices; AdamW trains all other weights."
    ),
]
LayerDecay = Annotated[
    float | None,
    typer.Option(help="Learning rate of a block over that of the next; 1, or 0.75 with --from."),
]
GradientCheckpointing = Annotated[bool, typer.Option(help="Less memory for more time.")]
SeedValue = Annotated[
    int, typer.Option(help="Random seed of the weights, the batches and the split.")
]
Device = Annotated[DeviceOption, typer.Option(help="Where to train.")]
Calibrate = Annotated[
    bool, typer.Option(help="Calibrate the checkpoint at the end, on the valid split.")
]
NameValue = Annotated[str, typer.Option(help="Name of the model.")]
VersionValue = Annotated[str, typer.Option(help="Version of the weights.")]


def train(
    data: Data,
    out: Out,
    not_music: NotMusic = None,
    variant: Variant = None,
    window_s: WindowS = None,
    start_from: StartFrom = None,
    crops: CropsValue = 220_000,
    max_minutes: MaxMinutes = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    valid_ratio: ValidRatioValue = DEFAULT_VALID_RATIO,
    noise: Noise = True,
    optimiser: Optimiser = OptimiserOption.MUON,
    layer_decay: LayerDecay = None,
    gradient_checkpointing: GradientCheckpointing = False,
    seed: SeedValue = 0,
    device: Device = DeviceOption.AUTO,
    threads: Threads = None,
    calibrate: Calibrate = True,
    name: NameValue = "acousticsense",
    version: VersionValue = "1",
) -> None:
    """Train a checkpoint and calibrate it.

    Groups (artists, albums) and copies of a recording stay on one side of the split. What cannot be
    read is listed. Calibration needs 20 tracks of the valid split; with fewer the checkpoint says
    "not calibrated" and gives no prediction sets.
    """
    require("train")
    log_to_stderr(logging.INFO)
    with readable_errors(), quiet_decoders():
        import torch

        from acoustic.training.augment import AugmentConfig
        from acoustic.training.batches import BatchConfig
        from acoustic.training.optimiser import OptimiserConfig

        _refuse_existing(out, resume or overwrite)
        if threads:
            torch.set_num_threads(threads)
        with settings():
            _refuse_unused(start_from, variant, window_s)
            decay = (0.75 if start_from else 1.0) if layer_decay is None else layer_decay
            augment = AugmentConfig() if noise else AugmentConfig(noise_probability=0.0)
            job = _job(
                start_from, device.value, variant=variant, window_s=window_s, out=out, name=name,
                version=version, resume=resume, n_crops=crops, max_minutes=max_minutes, seed=seed,
                gradient_checkpointing=gradient_checkpointing,
                batches=BatchConfig(augment=augment),
                optimiser=OptimiserConfig(name=optimiser.value, layer_decay=decay),
            )  # fmt: skip
        _train(job, data, not_music, valid_ratio, threads, calibrate)


def _train(
    job: Job,
    data: list[Path],
    not_music: Path | None,
    valid_ratio: float,
    threads: int | None,
    calibrate: bool,
) -> None:
    """Read the data, train, calibrate where there are enough tracks, and say what is next."""
    from acoustic.data.dataset import read_dataset
    from acoustic.data.groups import refuse_trained_on
    from acoustic.data.outliers import read_outliers
    from acoustic.training.job import train_checkpoint

    out, seed = job.out, job.recipe.seed
    dataset = read_dataset(data, job.geometry, valid_ratio=valid_ratio, seed=seed)
    if job.start_from:
        refuse_trained_on(job.start_from.folder, dataset.split("valid"))
    can_calibrate = _say_what_is_there(dataset)
    outliers = read_outliers(not_music, job.geometry, "train") if not_music else []
    with _interruptible(out):
        train_checkpoint(dataset, outliers, job, on_report=_print_report)
        if calibrate and can_calibrate:
            fit(out, data, valid_ratio=valid_ratio, seed=seed, threads=threads)
    done = "trained" if can_calibrate else "trained, not calibrated; with more recordings"
    rest = _commands_left(out, data, valid_ratio, seed, calibrate and can_calibrate)
    typer.echo(f"{out}: {done}; next: {rest}")


def _say_what_is_there(dataset: Dataset) -> bool:
    """Print how many tracks each split has; whether those of the valid split suffice."""
    from acoustic.data.groups import without_repeats
    from acoustic.fitting.calibrate import MIN_TRACKS

    n_valid = len(without_repeats(dataset.split("valid")))
    suffices = n_valid >= MIN_TRACKS
    need = f"calibration needs {MIN_TRACKS} valid tracks"
    typer.echo(
        f"{len(dataset.split('train'))} tracks to train on, {n_valid} valid tracks; {need}"
        + ("" if suffices else ": it is left out, the checkpoint will say so; add recordings"),
        err=True,
    )
    return suffices


def _commands_left(
    out: Path, data: list[Path], valid_ratio: float, seed: int, is_calibrated: bool
) -> str:
    """The command that follows: evaluation, or before it calibration on the same split."""
    name = "evaluate" if is_calibrated else "calibrate"
    command = f"acousticsense {name} {out} {' '.join(map(str, data))}"
    if (valid_ratio, seed) == (DEFAULT_VALID_RATIO, 0):
        return command
    return f"{command} --valid-ratio {valid_ratio:g} --seed {seed}"


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


def _job(
    start_from: Path | None,
    accelerator: Accelerator,
    *,
    variant: str | None,
    window_s: float | None,
    out: Path,
    name: str,
    version: str,
    resume: bool,
    **recipe: Any,
) -> Job:
    """What to train; the checkpoint to fine-tune is loaded here."""
    from acoustic.checkpoint_folder import CheckpointFolder
    from acoustic.classify.checkpoint import load_checkpoint
    from acoustic.classify.engine import plan_execution
    from acoustic.classify.engine_config import EngineConfig
    from acoustic.data.groups import trained_groups
    from acoustic.training.job import Job
    from acoustic.training.trainer import Recipe, native_precision

    device = plan_execution(EngineConfig(accelerator=accelerator)).device
    known = load_checkpoint(CheckpointFolder.open(start_from)) if start_from else None
    return Job(
        out=out,
        name=name,
        version=version,
        variant=_known(variant or DEFAULT_VARIANT),
        mel=_geometry(window_s or DEFAULT_WINDOW_S),
        start_from=known,
        recipe=Recipe(precision=native_precision(device), **recipe),
        device=device,
        resume=resume,
        known_groups=trained_groups(known.folder) if known else (),
    )


def _refuse_existing(out: Path, may_exist: bool) -> None:
    from acoustic.checkpoint_folder import WEIGHTS_FILE
    from acoustic.errors import ConfigError

    if (out / WEIGHTS_FILE).exists() and not may_exist:
        raise ConfigError(f"{out} has a checkpoint already: choose a new folder, or --overwrite")


def _refuse_unused(start_from: Path | None, variant: str | None, window_s: float | None) -> None:
    if start_from and (variant or window_s):
        raise ValueError("with --from, variant and window are those of the checkpoint")


def _known(variant: str) -> str:
    from acoustic.classify.vit import VARIANTS

    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}, known are {', '.join(VARIANTS)}")
    return variant


def _geometry(window_s: float) -> MelConfig:
    """The default front end with the whole number of patches nearest to a window's length."""
    from dataclasses import replace

    from acoustic.geometry import MelConfig

    mel = MelConfig()
    patches = round(window_s * mel.sample_rate / mel.hop_length / WINDOW_MULTIPLE)
    if not 1 <= patches <= 45:
        raise ValueError(f"window is {window_s:g} s, limits are 0.7 to 30 s")
    return replace(mel, n_frames=patches * WINDOW_MULTIPLE)


def _print_report(report: Report) -> None:
    left_s = report.elapsed_s * (1 - report.progress) / report.progress
    accuracy = "" if report.accuracy is None else f"  valid accuracy {report.accuracy:.3f}"
    typer.echo(
        f"{report.progress:4.0%}  crops {report.n_crops:,}  loss {report.loss:.3f}{accuracy}  "
        f"{report.crops_per_s:.0f} crops/s  {left_s / 60:.0f} min left",
        err=True,
    )
