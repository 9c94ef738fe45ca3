"""`acousticsense classify FILES…`: in process, without Ray."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from acousticsense.options import (
    DEFAULT_CONFIG,
    Config,
    Effort,
    EffortOption,
    Model,
    quiet_decoders,
    readable_errors,
)

if TYPE_CHECKING:
    from acoustic.pipeline import Pipeline

TABLE_TOP_K = 3
"""More genres make a table hard to read."""

N_THREADS = 4
"""Files decoded at a time while the model works on another."""

COLUMNS = (
    "file", "top_genre", "confidence", "prediction_set", "family", "needs_review", "reasons",
    "duration_s",
    "error_code", "error_message",
)  # fmt: skip


def classify(
    files: Annotated[list[Path], typer.Argument(help="Audio files, or folders of them.")],
    effort: Effort = EffortOption.BALANCED,
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="Genres per file; 3 in a table and 5 elsewhere by default."),
    ] = None,
    coverage: Annotated[
        float | None, typer.Option(help="Of the prediction set, 0.50 to 0.99; 0.9 by default.")
    ] = None,
    timeline: Annotated[bool, typer.Option(help="List every window (with --json).")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A CSV table.")] = False,
    model: Model = None,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Tell the genre of audio files.

    A file that cannot be read is reported and the rest goes on; the exit code is then 1.
    """
    if as_json and as_csv:
        raise typer.BadParameter("choose one of --json and --csv")
    with readable_errors(), quiet_decoders():
        from acoustic.errors import InvalidOptionError
        from acoustic.postprocess.postprocessor import check_coverage, check_top_k

        pipeline = load_pipeline(config, model)
        n_classes = len(pipeline.postprocessor.labels)
        check_top_k(top_k, n_classes)
        if top_k is None and not (as_json or as_csv):
            top_k = min(TABLE_TOP_K, n_classes)
        if coverage is not None:
            check_coverage(coverage)
        paths = list(_expand(files))
        if not paths:
            raise InvalidOptionError("there is no audio file in the folders given")
        wanted = {
            "effort": effort.value,
            "top_k": top_k,
            "timeline": timeline,
            "coverage": coverage,
        }
        rows = _rows(pipeline, paths, wanted)
        if as_json:
            n_failed = _print_json(rows)
        elif as_csv:
            n_failed = _print_csv(rows)
        else:
            n_failed = _print_table(rows, len(paths))
    raise typer.Exit(1 if n_failed else 0)


def load_pipeline(config: Path, model: Path | None) -> Pipeline:
    """The three stages as the service would run them, without its cache.

    Raises:
        ConfigError: the settings cannot be used.
        CheckpointError: the checkpoint cannot be used.
    """
    from acoustic.pipeline import Pipeline, PipelineConfig
    from deployments.config import load_config

    settings = load_config(config)
    if model is not None:
        settings = replace(settings, checkpoint=str(model.resolve()))
    return Pipeline.from_folder(
        settings.checkpoint_folder,
        PipelineConfig(
            preprocess=settings.preprocess,
            engine=settings.engine,
            postprocess=settings.postprocess,
        ),
    )


def _expand(files: Iterable[Path]) -> Iterator[Path]:
    """Folders are walked; a file inside one counts as audio if its suffix says so."""
    from acoustic.preprocess.containers import SUFFIXES

    for path in files:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        else:
            yield path


def _rows(
    pipeline: Pipeline, paths: list[Path], wanted: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Prediction or error of each file, in order."""
    from acoustic.errors import InputError

    def row(path: Path) -> dict[str, Any]:
        try:
            prediction = pipeline.classify_file(path, **wanted)
        except InputError as error:
            return _error_row(path, error.code, error.message)
        except OSError as error:
            return _error_row(path, "file_unreadable", error.strerror or type(error).__name__)
        return {**prediction.to_dict(), "file": str(path)}

    with ThreadPoolExecutor(N_THREADS) as pool:
        yield from pool.map(row, paths)


def _error_row(path: Path, code: str, message: str) -> dict[str, Any]:
    return {"file": str(path), "error": {"code": code, "message": message}}


def _print_json(rows: Iterable[dict[str, Any]]) -> int:
    n_failed = 0
    for row in rows:
        n_failed += "error" in row
        print(json.dumps(row, ensure_ascii=False, allow_nan=False), flush=True)
    return n_failed


def _print_csv(rows: Iterable[dict[str, Any]]) -> int:
    writer = csv.DictWriter(sys.stdout, COLUMNS, extrasaction="ignore")
    writer.writeheader()
    n_failed = 0
    for row in rows:
        error = row.get("error", {})
        n_failed += bool(error)
        reasons = " ".join(reason["code"] for reason in row.get("reasons", []))
        codes = {"error_code": error.get("code", ""), "error_message": error.get("message", "")}
        members = "; ".join((row.get("prediction_set") or {}).get("genres", []))
        family = (row.get("family") or {}).get("name", "")
        answer = {"reasons": reasons, "prediction_set": members, "family": family}
        writer.writerow({**row, **answer, **codes})
    return n_failed


def _print_table(rows: Iterable[dict[str, Any]], n_files: int) -> int:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import track
    from rich.table import Table

    console, errors = Console(), Console(stderr=True)
    table = Table("file", "genre", "confidence", "next", "review")
    n_failed = 0
    progress = track(
        rows, "classifying", n_files, console=errors, disable=n_files < 2, transient=True
    )
    for row in progress:
        if "error" in row:
            n_failed += 1
            errors.print(
                f"[red]failed[/red] {escape(row['file'])}: {escape(row['error']['message'])}"
            )
            continue
        family = row["family"]
        genre = row["top_genre"] + (f" (family {family['name']})" if family else "")
        others = ", ".join(f"{s['genre']} {s['probability']:.0%}" for s in row["predictions"][1:])
        reasons = ", ".join(reason["code"] for reason in row["reasons"])
        name = escape(row["file"])
        table.add_row(name, genre, f"{row['confidence']:.0%}", others, reasons)
    if table.row_count:
        console.print(table)
    return n_failed
