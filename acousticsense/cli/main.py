"""The `acousticsense` command.

Commands import what they need when they run, so that `--help` is fast.
"""

from __future__ import annotations

import typer

from acoustic import __version__
from acousticsense.cli import (
    batch,
    calibrate,
    checkpoint,
    classify,
    config,
    evaluate,
    k8s,
    profile,
    rules,
    serve,
    train,
)

app = typer.Typer(
    help="Music-genre classification that says how sure it is.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("classify")(classify.classify)
app.command("batch")(batch.batch)
app.command("profile")(profile.profile)
app.command("serve")(serve.serve)
app.command("train")(train.train)
app.command("calibrate")(calibrate.calibrate)
app.command("evaluate")(evaluate.evaluate)
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
