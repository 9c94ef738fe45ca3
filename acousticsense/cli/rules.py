"""`acousticsense rules fit`: which music-knowledge rules help a checkpoint, and by how much."""

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
from acousticsense.cli.exit_codes import help_end
from acousticsense.cli.options import log_to_stderr, quiet_decoders, readable_errors, require

app = typer.Typer(help="Music-knowledge rules.", no_args_is_help=True, rich_markup_mode=None)

COVERAGE = 0.9


@app.command(
    epilog=help_end(
        "rules fit mine ~/Music/by-genre", "rules fit mine data/manifest.csv --out my-rules.yaml"
    )
)
def fit(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder, calibrated.")],
    data: Data,
    rules: Annotated[
        Path | None, typer.Option(help="File of rules to fit; the built-in one by default.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write the fitted rules to, such as that of --rules; none by default."
        ),
    ] = None,
    valid_ratio: ValidRatio = DEFAULT_VALID_RATIO,
    seed: Seed = 0,
    collection: Collection = None,
    threads: Threads = None,
) -> None:
    """Find the weight of each rule on the valid split and enable those that lower the NLL."""
    require("train")
    log_to_stderr(logging.WARNING)
    with readable_errors(), quiet_decoders():
        from acoustic.data.unseen import trained_collections
        from acoustic.fitting.calibrate import cross_fit, fit_config
        from acoustic.fitting.held_out import open_held_out
        from acoustic.fitting.rule_fit import describe_clips, fit_rules
        from acoustic.fitting.tracks import evaluate_clips
        from acoustic.postprocess.calibration import load_calibration
        from acoustic.postprocess.rules import fitting
        from acoustic.preprocess.segments import WINDOWS_BY_EFFORT
        from deployments.built_in import RULES, built_in
        from deployments.config import load_rules, save_rules

        wanted = load_rules(rules or built_in(RULES))
        held_out = open_held_out(
            checkpoint, data, valid_ratio=valid_ratio, seed=seed, n_threads=n_threads(threads),
            collection=collection,
        )  # fmt: skip
        manifest = held_out.checkpoint.manifest
        floor = load_calibration(held_out.checkpoint.folder).floor
        trained = trained_collections(held_out.checkpoint.folder)
        tracks = evaluate_clips(held_out.engine, held_out.valid, trained=trained)
        n_windows = WINDOWS_BY_EFFORT["thorough"]
        config = fit_config(held_out.checkpoint.folder, with_floor=floor > 0)
        probabilities = cross_fit(
            tracks, manifest.labels, n_windows, COVERAGE, config
        ).probabilities
        descriptors = describe_clips(held_out.valid, manifest.mel, n_windows)
        known = fitting(wanted, manifest.labels)
        for rule in wanted:
            if rule.name not in {each.name for each in known}:
                typer.echo(f"left out: {rule.name}, the model has none of its genres", err=True)
        fitted = fit_rules(known, probabilities, tracks, descriptors, manifest.labels)
        if out is not None:
            save_rules(out, tuple(each.rule for each in fitted), _head(len(tracks)))
    for each in fitted:
        typer.echo(
            f"{each.rule.name}: fires on {each.n_fired} of {len(tracks)} tracks, log-odds "
            f"{each.rule.log_odds:+.2f}, NLL lower by {each.gain:.4f} "
            f"({each.low:.4f} to {each.high:.4f}): {'on' if each.rule.enabled else 'off'}"
        )
    if out is not None:
        typer.echo(f"{out}: written")


def _head(n_tracks: int) -> str:
    return (
        f"# Fitted by `acousticsense rules fit` on {n_tracks} held-out tracks: a rule is enabled "
        "where it\n# lowers the NLL beyond its 95 % interval.\n\n"
    )
