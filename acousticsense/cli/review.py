"""`acousticsense review` and `corrections`: answers to a person, and what the person says back."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from acousticsense.cli.options import Config, Model, TaxonomyName, readable_errors


class SplitOption(StrEnum):
    """What labelled files are for."""

    TRAIN = "train"
    VALID = "valid"


def review(
    results: Annotated[Path, typer.Argument(help="Answers of `classify --out` or `batch`.")],
    out: Annotated[Path, typer.Option(help="Folder for the queue; created.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Also the answers that need nobody.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Most answers; all by default.")] = None,
    audio_url: Annotated[
        str | None,
        typer.Option(
            help="Start of the address at which Label Studio finds the files; its address of local "
            "files by default.",
            show_default=False,
        ),
    ] = None,
    taxonomy: TaxonomyName = "",
    model: Model = None,
    config: Config = None,
) -> None:
    """Write the answers that a person should look at, the least sure first.

    The folder gets review.csv, whose column genre is for the person, and label_studio.json with
    label_studio.xml, to import into Label Studio. `corrections` reads both back.
    """
    from acousticsense.loading import labels_of
    from acousticsense.results import read_flat
    from acousticsense.review.queue import LOCAL_FILES, to_review, write_queue
    from deployments.config import BUILT_IN

    with readable_errors():
        genres = labels_of(config, model or BUILT_IN, taxonomy).names
        items = to_review(read_flat(results), everything=everything, limit=limit)
        write_queue(out, items, genres, LOCAL_FILES if audio_url is None else audio_url)
    typer.echo(f"{len(items):,} answers to look at in {out}", err=True)


def corrections(
    answers: Annotated[
        list[Path],
        typer.Argument(
            metavar="ANSWERS…",
            help="Filled-in review.csv, JSON of Label Studio, or manifest.csv of the page.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Manifest; what it holds already is kept.")],
    root: Annotated[
        Path | None,
        typer.Option(help="Folder that names of files begin in; the current one by default."),
    ] = None,
    split: Annotated[
        SplitOption | None,
        typer.Option(
            help="Split of new files: valid to calibrate a model on all of them that was not "
            "trained on them; drawn by default."
        ),
    ] = None,
    any_genre: Annotated[
        bool, typer.Option("--any-genre", help="Also genres that the model does not have.")
    ] = False,
    model: Model = None,
    config: Config = None,
) -> None:
    """Merge what people said into a manifest for `train` and `calibrate`.

    Later answers take the place of earlier ones. The group of a file is its folder, so that an
    album is never on both sides of a split.
    """
    from acousticsense.loading import labels_of
    from acousticsense.review.corrections import merge, read_corrections, write_manifest
    from deployments.config import BUILT_IN

    with readable_errors():
        labels = None if any_genre else labels_of(config, model or BUILT_IN)
        named = [pair for path in answers for pair in read_corrections(path)]
        merged = merge(out, named, labels, root, split.value if split else "")
        if merged.n_new or merged.n_changed:
            write_manifest(out, merged)
    for problem in merged.problems:
        typer.echo(f"left out: {problem}", err=True)
    typer.echo(
        f"{len(merged.rows):,} files in {out}: {merged.n_new:,} new, {merged.n_changed:,} changed",
        err=True,
    )
    raise typer.Exit(1 if merged.problems else 0)
