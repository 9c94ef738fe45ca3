"""Every odd file has one answer, or one error, by library, HTTP, batch job and command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from acoustic.errors import InputError
from acoustic.pipeline import Pipeline
from acousticsense.cli.main import app
from benchmarks.s3_server import BUCKET, S3Server
from deployments.batch.job import run_job
from deployments.batch.job_options import JobOptions
from deployments.batch.storage import StorageOptions
from tests.serve.conftest import Deploy
from tests.support.odd_files import ODD_FILES

COMPARED = ("duration_s", "top_genre", "confidence", "predictions", "reasons", "quality")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {f"{i:02}.mp3": odd.make() for i, odd in enumerate(ODD_FILES.values())}


@pytest.fixture(scope="module")
def expected(files: dict[str, bytes], tiny_checkpoint: Path) -> dict[str, dict[str, Any]]:
    pipeline = Pipeline.from_folder(tiny_checkpoint)

    def outcome(data: bytes) -> dict[str, Any]:
        try:
            return answer(pipeline.classify(data).to_dict())
        except InputError as error:
            return {"code": error.code, "message": error.message}

    return {name: outcome(data) for name, data in files.items()}


def answer(body: dict[str, Any]) -> dict[str, Any]:
    return {name: body[name] for name in COMPARED}


def test_http(deploy: Deploy, files: dict[str, bytes], expected: dict[str, dict[str, Any]]) -> None:
    client = deploy()
    for name, data in files.items():
        body = client.post("/v1/classify", content=data).json()
        found = body["error"] if "error" in body else answer(body)
        assert found == expected[name], list(ODD_FILES)[int(name[:2])]


@pytest.mark.parametrize("read", ["whole", "ranged"])
def test_batch(
    cluster: int,
    s3: S3Server,
    tiny_checkpoint: Path,
    files: dict[str, bytes],
    expected: dict[str, dict[str, Any]],
    read: str,
) -> None:
    folder = s3.bucket / "odd"
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    options = JobOptions(
        sources=(f"s3://{BUCKET}/odd",), out=f"s3://{BUCKET}/out-odd-{read}",
        model=tiny_checkpoint, preprocess_actors=2, classify_actors=1, progress="quiet",
        read=read,  # type: ignore[arg-type]
        storage=StorageOptions(endpoint=s3.endpoint, region="us-east-1"),
    )  # fmt: skip
    assert run_job(options) == 0
    parts = (s3.bucket / f"out-odd-{read}").glob("part-*.parquet")
    rows = [row for path in parts for row in pyarrow.parquet.read_table(path).to_pylist()]
    assert len(rows) == len(files)
    for row in rows:
        name = row["uri"].rpartition("/")[2]
        found = answer(row)
        if row["error_code"]:
            found = {"code": row["error_code"], "message": row["error_message"]}
        assert found == expected[name], list(ODD_FILES)[int(name[:2])]


def test_command_line(
    tmp_path: Path,
    tiny_checkpoint: Path,
    files: dict[str, bytes],
    expected: dict[str, dict[str, Any]],
) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    run: Callable[..., Any] = CliRunner().invoke
    result = run(app, ["classify", str(tmp_path), "--json", "--model", str(tiny_checkpoint)])
    assert result.exit_code == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == len(files)
    for line in lines:
        name = Path(line["file"]).name
        found = line["error"] if "error" in line else answer(line)
        assert found == expected[name], list(ODD_FILES)[int(name[:2])]
