"""Options of the commands that read labelled recordings: train, calibrate, evaluate, rules fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acoustic.resources import usable_cpus

DEFAULT_VALID_RATIO = 0.2

Data = Annotated[
    list[Path],
    typer.Argument(
        help="Folder per genre, manifest (.csv, .parquet) or mel pack; several are one."
    ),
]
NotMusic = Annotated[
    Path | None,
    typer.Option(
        help="Folder of speech and other sounds: `train` uses one half, `evaluate` the other."
    ),
]
ValidRatio = Annotated[
    float, typer.Option(help="Share held out where the data states no split; as in training.")
]
Collection = Annotated[
    str | None,
    typer.Option(
        help="Column of the manifests that says who put a recording together with others; "
        "`collection` by default, and without one each data set is a collection."
    ),
]
Seed = Annotated[int, typer.Option(help="Random seed of the split; as in training.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores by default.")]


def n_threads(wanted: int | None) -> int:
    """The wanted number of CPU threads, or one per core."""
    return wanted or usable_cpus()
