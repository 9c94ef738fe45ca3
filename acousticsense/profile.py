"""`acousticsense profile FILE`: where the time goes, stage by stage (the guide's section 2.1)."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated

import typer

from acousticsense.classify import load_pipeline
from acousticsense.options import (
    DEFAULT_CONFIG,
    Config,
    Effort,
    EffortOption,
    Model,
    quiet_decoders,
    readable_errors,
)


def profile(
    file: Annotated[Path, typer.Argument(help="An audio file.", exists=True, dir_okay=False)],
    effort: Effort = EffortOption.BALANCED,
    runs: Annotated[int, typer.Option(min=1, max=1000, help="Runs; medians are shown.")] = 20,
    model: Model = None,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Time each stage on one file: milliseconds and share of the total."""
    from rich.console import Console
    from rich.table import Table

    with readable_errors(), quiet_decoders():
        pipeline = load_pipeline(config, model)
        timings: dict[str, list[float]] = {}
        for run in range(runs + 1):
            start_s = time.perf_counter()
            data = file.read_bytes()
            load_ms = (time.perf_counter() - start_s) * 1e3
            prediction = pipeline.classify(data, effort=effort.value)
            if run == 0:
                continue  # the first run warms caches up and is not counted
            for stage, ms in {"load": load_ms, **prediction.timings_ms}.items():
                timings.setdefault(stage, []).append(ms)
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
