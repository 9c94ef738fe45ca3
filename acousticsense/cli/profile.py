"""`acousticsense profile FILE`: where the time goes, stage by stage (the guide's section 2.1)."""

from __future__ import annotations

import statistics
import time
from enum import StrEnum
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
    require,
)

if TYPE_CHECKING:
    from acousticsense.reference import Comparison


class CompareOption(StrEnum):
    """Front end that ours is compared with."""

    LIBROSA = "librosa"


def profile(
    file: Annotated[Path, typer.Argument(help="An audio file.", exists=True, dir_okay=False)],
    effort: Effort = EffortOption.BALANCED,
    runs: Annotated[int, typer.Option(min=1, max=1000, help="Runs; medians are shown.")] = 20,
    compare: Annotated[
        CompareOption | None,
        typer.Option(help="Run the guide's front end on librosa beside ours, in ms and dB."),
    ] = None,
    model: Model = None,
    config: Config = None,
) -> None:
    """Time each stage on one file: milliseconds and share of the total."""
    from rich.console import Console
    from rich.table import Table

    if compare is not None:
        require("reference")
    with readable_errors(), quiet_decoders():
        from acoustic.request import RequestOptions
        from acousticsense.inputs import read_file
        from acousticsense.loading import open_pipeline
        from deployments.config import BUILT_IN

        pipeline = open_pipeline(config, model or BUILT_IN)
        options = RequestOptions(effort=effort.value)
        timings: dict[str, list[float]] = {}
        for run in range(runs + 1):
            start_s = time.perf_counter()
            data = read_file(file)
            load_ms = (time.perf_counter() - start_s) * 1e3
            prediction = pipeline.classify(data, options)
            if run == 0:
                continue  # the first run warms caches up and is not counted
            for stage, ms in {"load": load_ms, **prediction.timings_ms}.items():
                timings.setdefault(stage, []).append(ms)
        comparison = None
        if compare is not None:
            from acousticsense.reference import compare_front_ends

            comparison = compare_front_ends(data, runs)
    medians = {stage: statistics.median(values) for stage, values in timings.items()}
    total_ms = sum(medians.values())
    table = Table("stage", "ms", "%", title=f"{file.name}, {effort.value}, {runs} runs")
    for stage, ms in medians.items():
        table.add_row(stage, f"{ms:.2f}", f"{ms / total_ms:.1%}")
    table.add_section()
    table.add_row("total", f"{total_ms:.2f}", "100.0%")
    Console().print(table)
    info = prediction.model
    typer.echo(f"model {info.name} {info.version} on {info.device} in {info.precision}")
    if comparison is not None:
        _print_comparison(comparison)


def _print_comparison(comparison: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("front end", "decode ms", "log-mel ms", title="the guide's geometry, 224 frames")
    table.add_row("librosa", f"{comparison.librosa_decode_ms:.2f}", f"{comparison.librosa_ms:.2f}")
    table.add_row("ours", f"{comparison.our_decode_ms:.2f}", f"{comparison.our_ms:.2f}")
    Console().print(table)
    typer.echo(f"largest difference of the log-mel levels: {comparison.max_difference_db:.4f} dB")
