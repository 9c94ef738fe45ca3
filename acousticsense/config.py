"""`acousticsense config check`: finds what Serve itself would swallow in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look at the configuration.", no_args_is_help=True, rich_markup_mode=None)

DEFAULT_SERVE_CONFIG = Path(__file__).resolve().parent.parent / "serve_config.yaml"


@app.callback()
def group() -> None:
    """Look at the configuration."""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The file to check.")] = DEFAULT_SERVE_CONFIG,
) -> None:
    """Check serve_config.yaml, the settings file it names and the checkpoint, strictly."""
    from deployments.serve_check import check_serve_config

    problems = check_serve_config(file)
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)
    if problems:
        raise typer.Exit(2)
    typer.echo(f"{file.name} is fine")
