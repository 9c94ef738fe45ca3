"""Options that several commands share, and how errors leave a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "default.yaml"


class EffortOption(StrEnum):
    """How much of each track is heard."""

    FAST = "fast"
    BALANCED = "balanced"
    THOROUGH = "thorough"


Effort = Annotated[
    EffortOption, typer.Option(help="Windows heard per track: fast 1, balanced 3, thorough 10.")
]
Model = Annotated[
    Path | None, typer.Option(help="Checkpoint folder; the configuration's by default.")
]
Config = Annotated[Path, typer.Option(help="File of settings.")]


@contextmanager
def readable_errors() -> Iterator[None]:
    """Our own errors become one line on stderr and exit code 2, not a traceback."""
    from acoustic.errors import AcousticError

    try:
        yield
    except AcousticError as error:
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(2) from error
