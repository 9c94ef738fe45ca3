"""Options that several commands share, and how errors leave a command."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TextIO

import typer


class EffortOption(StrEnum):
    """How much of each track is evaluated."""

    FAST = "fast"
    BALANCED = "balanced"
    THOROUGH = "thorough"
    AUTO = "auto"


Effort = Annotated[
    EffortOption,
    typer.Option(
        help="Windows evaluated per track: fast 1, balanced 3, thorough 10, auto 3 to 10 as needed."
    ),
]
Model = Annotated[
    Path | None,
    typer.Option(help="Checkpoint folder; the one of the settings by default.", show_default=False),
]
Config = Annotated[Path | None, typer.Option(help="File of settings; the built-in one by default.")]
ContentDigest = Annotated[
    bool,
    typer.Option("--content-digest", help="Add the BLAKE3 digest of every file to its answer."),
]
TaxonomyName = Annotated[
    str,
    typer.Option(
        "--taxonomy",
        help="Genres of the answers: a name such as families, or a YAML file; the model's own by "
        "default.",
    ),
]

EXTRAS = {
    "batch": ("pyarrow", "jinja2"),
    "train": ("sklearn", "matplotlib", "jinja2", "pyarrow"),
    "hub": ("huggingface_hub",),
    "tags": ("mutagen",),
    "plot": ("matplotlib",),
    "reference": ("librosa",),
}
"""Extra of the package → modules that it installs."""


def resolved(path: Path | None) -> Path | None:
    """The absolute path, because workers of a job have another working directory."""
    return None if path is None else path.absolute()


def require(extra: str) -> None:
    """End the command with one sentence where an extra of the package is not installed.

    Args:
        extra: a key of EXTRAS.
    """
    missing = [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]
    if missing:
        typer.echo(
            f"error: this command needs the extra {extra} ({', '.join(missing)} is missing): "
            f"pip install 'acousticsense[{extra}]'",
            err=True,
        )
        raise typer.Exit(2)


@contextmanager
def readable_errors() -> Iterator[None]:
    """Print our own errors as one line on stderr with exit code 2, not as a traceback."""
    from acoustic.errors import AcousticError

    try:
        yield
    except AcousticError as error:
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(2) from error


@contextmanager
def settings() -> Iterator[None]:
    """A setting's ValueError becomes an error of ours: the user's mistake, not the program's."""
    from acoustic.errors import ConfigError

    try:
        yield
    except ValueError as error:
        raise ConfigError(str(error)) from error


class _CurrentStderr(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is when a line comes: `quiet_decoders` exchanges it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def log_to_stderr(level: int) -> None:
    """The library's log lines, for commands that take long or leave something out."""
    logging.basicConfig(level=level, format="%(message)s", handlers=[_CurrentStderr()])


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Send the native libraries' own stderr nowhere, and keep ours.

    libmpg123 prints a line for every frame that a seek has cut off from its bit reservoir; those
    frames are decoded and dropped on purpose.
    """
    own = sys.__stderr__
    if own is None or sys.stderr is not own:
        yield  # somebody captures it: leave it alone
        return
    own.flush()
    with open(os.devnull, "w") as nowhere, os.fdopen(os.dup(2), "w", buffering=1) as ours:
        os.dup2(nowhere.fileno(), 2)
        sys.stderr = ours
        try:
            yield
        finally:
            sys.stderr = own
            os.dup2(ours.fileno(), 2)
