"""`acousticsense classify FILES…`: in process, without Ray."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from acousticsense.cli.options import (
    Config,
    Effort,
    EffortOption,
    Model,
    quiet_decoders,
    readable_errors,
)

if TYPE_CHECKING:
    from acoustic.errors import AcousticError
    from acoustic.prediction import Prediction

TABLE_TOP_K = 3
"""More genres make a table hard to read."""

Result = tuple[Path, "Prediction | AcousticError"]


def classify(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Audio files, or folders of them.")
    ],
    effort: Effort = EffortOption.BALANCED,
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="Genres per file; 3 in a table and 5 elsewhere by default."),
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(help="Coverage of the prediction set, 0.50 to 0.99; 0.9 by default."),
    ] = None,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="List every window (with --json).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A CSV table.")] = False,
    model: Model = None,
    config: Config = None,
) -> None:
    """Classify audio files by genre.

    A file that cannot be read is reported and the rest goes on. Exit codes: 0 all classified,
    1 a file failed, 2 options or settings.
    """
    if as_json and as_csv:
        raise typer.BadParameter("choose one of --json and --csv")
    if timeline and not as_json:
        raise typer.BadParameter("--timeline needs --json")
    with readable_errors(), quiet_decoders():
        from acoustic.errors import InvalidOptionError
        from acousticsense.classifier import Classifier
        from acousticsense.inputs import expand
        from deployments.config import BUILT_IN

        paths = [Path(str(each)) for each in expand(files)]
        if not paths:
            raise InvalidOptionError("there is no audio file in the folders given")
        with Classifier(model or BUILT_IN, config=config) as classifier:
            if top_k is None and not (as_json or as_csv):
                top_k = min(TABLE_TOP_K, len(classifier.labels))
            outcomes = classifier.classify_many(
                paths, effort=effort.value, top_k=top_k, coverage=coverage, timeline=timeline
            )
            show: Callable[[Iterable[Result], int], int] = (
                _print_json if as_json else _print_csv if as_csv else _print_table
            )
            n_failed = show(zip(paths, outcomes, strict=True), len(paths))
    raise typer.Exit(1 if n_failed else 0)


def _print_json(results: Iterable[Result], n_files: int) -> int:
    from acoustic.errors import AcousticError

    n_failed = 0
    for path, result in results:
        if isinstance(result, AcousticError):
            n_failed += 1
            row = {"error": {"code": result.code, "message": result.message}}
        else:
            row = result.to_dict()
        body = {**row, "file": str(path)} if "file" in row else {"file": str(path), **row}
        print(json.dumps(body, ensure_ascii=False, allow_nan=False), flush=True)
    return n_failed


def _print_csv(results: Iterable[Result], n_files: int) -> int:
    from acoustic.errors import AcousticError
    from acoustic.prediction import RESULT_COLUMNS, result_row

    writer = csv.DictWriter(sys.stdout, RESULT_COLUMNS)
    writer.writeheader()
    n_failed = 0
    for path, result in results:
        n_failed += isinstance(result, AcousticError)
        writer.writerow(result_row(str(path), result))
    return n_failed


def _print_table(results: Iterable[Result], n_files: int) -> int:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import track
    from rich.table import Column, Table

    from acoustic.errors import AcousticError

    console, errors = Console(), Console(stderr=True)
    table = Table(Column("file", overflow="fold"), "genre", "confidence", "next", "review")
    table.columns[-1].overflow = "fold"
    n_failed = 0
    progress: Iterator[Result] = iter(
        track(results, "classifying", n_files, console=errors, disable=n_files < 2, transient=True)
    )
    for path, result in progress:
        if isinstance(result, AcousticError):
            n_failed += 1
            errors.print(f"[red]failed[/red] {escape(str(path))}: {escape(result.message)}")
            continue
        genre = result.genre + (f" (family {result.family.name})" if result.family else "")
        others = ", ".join(f"{s.genre} {s.probability:.0%}" for s in result.predictions[1:])
        reasons = ", ".join(reason.code for reason in result.reasons)
        table.add_row(escape(str(path)), genre, f"{result.confidence:.0%}", others, reasons)
    if table.row_count:
        console.print(table)
    return n_failed
