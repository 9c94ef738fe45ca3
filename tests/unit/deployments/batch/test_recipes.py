"""The Python blocks of docs/batch.md read the folder of a job, reports and all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from acoustic.errors import AudioDecodeError
from acoustic.pipeline import Pipeline
from deployments.batch.job_options import JobOptions
from deployments.batch.parts import write_part
from deployments.batch.plan import JOB_FILE
from deployments.batch.report import HTML_FILE, JSON_FILE
from deployments.batch.schema import answer_columns, identity, row_schema
from deployments.batch.source_file import SourceFile
from deployments.built_in import CHECKOUT
from tests.support.chunks import failed_row
from tests.support.sounds import encode, noise, sweep

PAGE = (CHECKOUT / "docs" / "batch.md").read_text()
BLOCKS = {
    next(
        name for name in ("pandas", "pyarrow", "polars", "duckdb") if f"import {name}" in code
    ): code
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
}


@pytest.fixture(scope="module")
def folder(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the folder `results` of a job."""
    place = tmp_path_factory.mktemp("recipes")
    pipeline = Pipeline.from_folder(tiny_checkpoint)
    rows = [
        {
            **identity(SourceFile(uri=f"/songs/{i}.wav"), 1000, ""),
            **answer_columns(pipeline.classify(encode(sound, 22_050))),
        }
        for i, sound in enumerate((sweep(20.0), noise(20.0)))
    ]
    rows.append(failed_row("/songs/c.wav", AudioDecodeError("damaged"), {}))
    for by_genre, name in ((False, "results"), (True, "by genre")):
        options = JobOptions(
            sources=("/songs",), out=str(place / name), partition_by_genre=by_genre
        )
        write_part(rows, row_schema([]), options)
        for other in (JOB_FILE, JSON_FILE, HTML_FILE):
            (place / name / other).write_text("not a table")
    return place


@pytest.mark.parametrize("library", ["pandas", "pyarrow", "polars", "duckdb"])
def test_the_recipe_runs_on_a_folder_of_results(
    folder: Path,
    library: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    exec(compile(BLOCKS[library], library, "exec"), {})
    assert capsys.readouterr().out


def test_folders_of_genres_are_read_as_the_page_says(folder: Path) -> None:
    import pandas as pd
    import polars as pl

    found = pd.read_parquet(folder / "by genre")
    assert len(found) == 3
    assert "none" in set(found["genre"])
    lazy = pl.scan_parquet(str(folder / "by genre/**/part-*.parquet"), hive_partitioning=True)
    assert set(lazy.collect()["genre"]) == set(found["genre"])
