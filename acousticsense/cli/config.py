"""`acousticsense config check`: strict check of serve_config.yaml; Serve ignores unknown keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from acousticsense.cli.exit_codes import help_end

app = typer.Typer(help="Look at the configuration.", no_args_is_help=True, rich_markup_mode=None)


@app.command(epilog=help_end("config check", "config check my/serve_config.yaml"))
def check(
    file: Annotated[
        Path | None, typer.Argument(help="The file to check; the built-in one by default.")
    ] = None,
) -> None:
    """Check serve_config.yaml, the settings file it names and the checkpoint, strictly."""
    from deployments.built_in import SERVE_CONFIG, built_in
    from deployments.serve_check import check_serve_config

    file = file or built_in(SERVE_CONFIG)
    problems = check_serve_config(file)
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
    if problems:
        raise typer.Exit(2)
    typer.echo(f"{file.name} is fine")
