"""The `acousticsense` command.

Commands import what they need when they run, so that `--help` is fast.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import TextIOWrapper

import typer

from acoustic import __version__
from acousticsense.cli import (
    batch,
    calibrate,
    checkpoint,
    classify,
    config,
    doctor,
    evaluate,
    k8s,
    plot,
    profile,
    review,
    rules,
    serve,
    tag,
    train,
    watch,
)
from acousticsense.cli.exit_codes import help_end

app = typer.Typer(
    help="Music-genre classification that says how sure it is.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=help_end("classify ~/Music", "serve", "batch ~/Music --out results"),
)


def _add(name: str, function: Callable[..., None], *examples_of_it: str) -> None:
    app.command(name, epilog=help_end(*examples_of_it))(function)


_add(
    "classify", classify.classify,
    "classify ~/Music",
    "classify ~/Music --out genres.csv --skip-existing",
    "classify - < song.mp3",
)  # fmt: skip
_add(
    "batch", batch.batch,
    "batch ~/Music --out results",
    "batch s3://bucket/music --out s3://bucket/genres --resume",
)  # fmt: skip
_add(
    "tag", tag.tag,
    "tag ~/Music",
    "tag ~/Music --write --keep-existing --min-confidence 0.7",
    "tag --undo genres-20261129-120000.jsonl",
)  # fmt: skip
_add(
    "watch", watch.watch,
    "watch ~/Music/new --out genres.jsonl",
    "watch ~/Music --out genres.jsonl --tag --keep-existing",
)  # fmt: skip
_add(
    "review", review.review,
    "review results --out queue",
    "review genres.csv --out queue --limit 50",
)  # fmt: skip
_add(
    "corrections", review.corrections,
    "corrections queue/review.csv --out manifest.csv",
    "corrections manifest.csv project-1.json --out all.csv --root ~/Music",
)  # fmt: skip
_add("plot", plot.plot, "plot song.mp3", "plot song.mp3 --out song.svg --effort thorough")
_add("profile", profile.profile, "profile song.mp3", "profile song.mp3 --compare librosa")
_add("doctor", doctor.doctor, "doctor", "doctor --json")
_add("serve", serve.serve, "serve", "serve my/serve_config.yaml --port 8080")
_add(
    "train", train.train,
    "train ~/Music/by-genre --out mine",
    "train data/manifest.csv --out mine --from default --max-minutes 60",
)  # fmt: skip
_add(
    "calibrate", calibrate.calibrate,
    "calibrate mine ~/Music/by-genre",
    "calibrate mine data/manifest.csv --review-accuracy 0.9",
)  # fmt: skip
_add(
    "evaluate", evaluate.evaluate,
    "evaluate mine ~/Music/by-genre",
    "evaluate mine data/manifest.csv --out report",
)  # fmt: skip
app.add_typer(rules.app, name="rules")
app.add_typer(config.app, name="config")
app.add_typer(k8s.app, name="k8s")
app.add_typer(checkpoint.app, name="checkpoint")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def main(
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_print_version, help="Print the version."
    ),
) -> None:
    """Music-genre classification that says how sure it is."""
    # a file name that the terminal's encoding does not have is escaped, and never ends a command
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
