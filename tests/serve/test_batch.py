"""The batch job on Ray Data: one row per file, the pipeline's numbers, no row lost or repeated."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest
from click.testing import Result
from typer.testing import CliRunner

from acoustic.pipeline import Pipeline
from acoustic.request import Effort, RequestOptions
from acousticsense.cli.main import app
from benchmarks.s3_server import BUCKET, FaultProxy, S3Server
from deployments.batch.job import run_job
from deployments.batch.job_options import Format, JobOptions
from deployments.batch.schema import LEFT_OUT, RESERVED
from deployments.batch.storage import StorageOptions
from tests.support.sounds import encode, noise, sweep, tone

N_GOOD = 11
JUNK = {
    "bad.mp3": b"no audio in here " * 50,
    "empty.wav": b"",
    "short.wav": encode(tone(440, 0.3), 22_050),
}

Job = Callable[..., JobOptions]


def make_songs(folder: Path) -> None:
    """Write valid files of several lengths and containers, and three broken files."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(N_GOOD):
        kind = ("wav", "flac", "mp3", "ogg")[i % 4]
        sound = (sweep(5.0 + 3 * i), tone(200 + 40 * i, 8.0 + i), noise(4.0 + i, seed=i))[i % 3]
        (folder / f"song {i:02}.{kind}").write_bytes(encode(sound, 22_050, kind))
    for name, content in JUNK.items():
        (folder / name).write_bytes(content)


@pytest.fixture
def job(cluster: int, tiny_checkpoint: Path, tmp_path: Path) -> Job:
    def options(*sources: object, **changes: object) -> JobOptions:
        basis = JobOptions(
            sources=tuple(map(str, sources)),
            out=str(tmp_path / "out"),
            model=tiny_checkpoint,
            chunk_files=4,
            preprocess_actors=2,
            classify_actors=1,
            progress="quiet",
        )
        return replace(basis, **changes)  # type: ignore[arg-type]

    return options


def rows_of(out: Path) -> list[dict[str, object]]:
    tables = [pyarrow.parquet.read_table(path) for path in sorted(out.rglob("part-*.parquet"))]
    return [row for table in tables for row in table.to_pylist()]


@pytest.mark.parametrize("effort", ["balanced", "auto"])
def test_every_file_of_a_bucket_has_the_pipelines_row(
    job: Job, s3: S3Server, tiny_checkpoint: Path, tmp_path: Path, effort: Effort
) -> None:
    make_songs(s3.bucket / effort)
    storage = StorageOptions(endpoint=s3.endpoint, region="us-east-1")
    out = f"s3://{BUCKET}/out-{effort}"
    options = job(
        f"s3://{BUCKET}/{effort}", out=out, storage=storage, request=RequestOptions(effort=effort)
    )
    assert run_job(options) == 0
    rows = rows_of(s3.bucket / f"out-{effort}")
    assert len(rows) == len({row["id"] for row in rows}) == N_GOOD + len(JUNK)
    pipeline = Pipeline.from_folder(tiny_checkpoint)
    for row in rows:
        name = str(row["uri"]).rpartition("/")[2]
        data = (s3.bucket / effort / name).read_bytes()
        assert row["size_bytes"] == len(data)
        if name in JUNK:
            assert row["error_code"] in ("unsupported_audio", "invalid_request", "audio_too_short")
            assert row["top_genre"] is None
            continue
        expected = pipeline.classify(data, RequestOptions(effort=effort)).to_dict()
        assert row["error_code"] == ""
        assert row["etag"]
        for key in expected.keys() - set(LEFT_OUT):
            assert row[key] == expected[key], (name, key)
    report = json.loads((s3.bucket / f"out-{effort}" / "_report.json").read_text())
    assert report["n_rows"] == N_GOOD + len(JUNK)
    assert report["n_errors"] == len(JUNK)
    assert sum(report["genres"].values()) == N_GOOD
    assert report["errors"]["audio_too_short"] == 1
    page = (s3.bucket / f"out-{effort}" / "_report.html").read_text()
    assert "<svg" in page
    assert "audio_too_short" in page


def test_ranged_reads_give_the_same_rows_from_fewer_bytes(
    job: Job, s3: S3Server, tmp_path: Path
) -> None:
    folder = s3.bucket / "long"
    make_songs(folder)
    for kind in ("wav", "flac"):
        (folder / f"long.{kind}").write_bytes(encode(sweep(120.0, 44_100), 44_100, kind))
    storage = StorageOptions(endpoint=s3.endpoint, region="us-east-1")
    rows = {}
    for read in ("whole", "ranged"):
        out = tmp_path / read
        options = job(
            f"s3://{BUCKET}/long",
            out=str(out),
            storage=storage,
            request=RequestOptions(effort="fast"),
        )
        assert run_job(replace(options, read=read)) == 0  # type: ignore[arg-type]
        rows[read] = {row.pop("uri"): row for row in rows_of(out)}
    assert rows["ranged"] == rows["whole"]
    run = {r: json.loads((tmp_path / r / "_report.json").read_text())["run"] for r in rows}
    assert run["whole"]["read_bytes"] == run["whole"]["size_bytes"]
    assert run["ranged"]["read_bytes"] < 0.5 * run["whole"]["read_bytes"]


@pytest.mark.parametrize("is_partitioned", [False, True])
def test_errors_of_the_store_are_tried_again_when_asked(
    job: Job, s3: S3Server, tmp_path: Path, is_partitioned: bool
) -> None:
    folder = f"denied-{is_partitioned}"
    make_songs(s3.bucket / folder)
    proxy = FaultProxy(s3, lambda method, path, count: "403" if path.endswith("1.flac") else "")
    try:
        storage = StorageOptions(endpoint=proxy.endpoint, region="us-east-1")
        options = job(f"s3://{BUCKET}/{folder}", storage=storage, partition_by_genre=is_partitioned)
        assert run_job(options) == 0
        before = {row["id"]: row for row in rows_of(tmp_path / "out")}
        denied = {i for i, row in before.items() if row["error_code"] == "source_forbidden"}
        proxy.fault = lambda method, path, count: ""
        assert run_job(replace(options, existing="resume")) == 0
        assert {row["id"]: row for row in rows_of(tmp_path / "out")} == before
        proxy.forget()
        assert run_job(replace(options, existing="resume", retry_errors=True)) == 0
    finally:
        proxy.close()
    rows = rows_of(tmp_path / "out")
    assert len(denied) == 1
    assert len(rows) == len(before)
    assert {row["id"] for row in rows} == before.keys()
    assert all(row["error_code"] == "" for row in rows if row["id"] in denied)
    assert all(row == before[row["id"]] for row in rows if row["id"] not in denied)
    assert len([path for path in proxy.gets() if path.endswith((".flac", ".mp3", ".ogg"))]) == 1


def test_a_second_run_adds_nothing_and_reads_nothing(job: Job, s3: S3Server) -> None:
    make_songs(s3.bucket / "twice")
    proxy = FaultProxy(s3)
    try:
        storage = StorageOptions(endpoint=proxy.endpoint, region="us-east-1")
        options = job(f"s3://{BUCKET}/twice", out=f"s3://{BUCKET}/out-twice", storage=storage)
        assert run_job(options) == 0
        first = rows_of(s3.bucket / "out-twice")
        proxy.forget()
        for existing in ("resume", "skip"):
            assert run_job(replace(options, existing=existing)) == 0  # type: ignore[arg-type]
        assert not [path for path in proxy.gets() if path.startswith(f"/{BUCKET}/twice/")]
    finally:
        proxy.close()
    assert rows_of(s3.bucket / "out-twice") == first


def test_a_store_that_fails_for_a_while_loses_no_row(job: Job, s3: S3Server) -> None:
    """The first two GETs of every song fail, each in a different way."""
    make_songs(s3.bucket / "weak")
    proxy = FaultProxy(s3)
    faults = ("503", "reset", "truncate")

    def fault(method: str, path: str, count: int) -> str:
        is_song = method == "GET" and path.startswith(f"/{BUCKET}/weak/")
        return faults[(len(path) + count) % 3] if is_song and count < 2 else ""

    proxy.fault = fault
    try:
        storage = StorageOptions(endpoint=proxy.endpoint, region="us-east-1", timeout_s=5.0)
        weak = job(f"s3://{BUCKET}/weak", out=f"s3://{BUCKET}/out-weak", storage=storage)
        assert run_job(weak) == 0
    finally:
        proxy.close()
    codes = [row["error_code"] for row in rows_of(s3.bucket / "out-weak")]
    assert len(codes) == N_GOOD + len(JUNK)
    assert sum(code != "" for code in codes) == len(JUNK)


def test_an_output_that_takes_nothing_ends_the_job_with_one_sentence(
    job: Job, s3: S3Server, capfd: pytest.CaptureFixture[str]
) -> None:
    make_songs(s3.bucket / "full")
    proxy = FaultProxy(s3)
    proxy.fault = lambda method, path, count: "403" if method == "PUT" and "/part-" in path else ""
    try:
        storage = StorageOptions(endpoint=proxy.endpoint, region="us-east-1")
        options = job(f"s3://{BUCKET}/full", out=f"s3://{BUCKET}/out-full", storage=storage)
        assert run_job(options) == 4
    finally:
        proxy.close()
    output = capfd.readouterr().out
    assert "job failed: " in output
    assert "the store denies access; rerun with --resume to continue" in output
    assert "Traceback" not in output


def test_manifests_pass_their_columns_through(job: Job, tmp_path: Path) -> None:
    make_songs(tmp_path / "songs")
    manifest = tmp_path / "list.csv"
    manifest.write_text(
        "uri,label,sha256\nsongs/song 00.wav,0012,\nsongs/song 01.flac,b,"
        + "0" * 64
        + "\nsongs/gone.wav,c,\ns3://bucket//odd,d,\n"
    )
    assert run_job(job(manifest)) == 0
    rows = {str(row["label"]): row for row in rows_of(tmp_path / "out")}
    assert rows["0012"]["error_code"] == ""
    assert rows["b"]["error_code"] == "source_corrupt"
    assert rows["c"]["error_code"] == "source_not_found"
    assert rows["d"]["error_code"] == "source_not_found"
    assert set(rows["c"]) == {*RESERVED, "label", "sha256"}


def test_other_formats_have_the_same_answers_and_resume(job: Job, tmp_path: Path) -> None:
    make_songs(tmp_path / "songs")
    assert run_job(job(tmp_path / "songs", out=str(tmp_path / "parquet"))) == 0
    whole = json.loads((tmp_path / "parquet" / "_report.json").read_text())
    formats: tuple[Format, ...] = ("jsonl", "csv")
    for format in formats:
        options = job(tmp_path / "songs", out=str(tmp_path / format), format=format, limit=6)
        assert run_job(options) == 0
        assert run_job(replace(options, limit=None, existing="resume")) == 0
        report = json.loads((tmp_path / format / "_report.json").read_text())
        for key in ("n_rows", "n_errors", "genres", "errors", "review_share"):
            assert report[key] == whole[key]
        assert report["run"]["n_finished_before"] == 6


def test_rows_go_to_a_folder_per_genre(job: Job, tmp_path: Path) -> None:
    make_songs(tmp_path / "songs")
    assert run_job(job(tmp_path / "songs", partition_by_genre=True)) == 0
    rows = rows_of(tmp_path / "out")
    assert len(rows) == len({row["id"] for row in rows}) == N_GOOD + len(JUNK)
    folders = {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()}
    assert "genre=none" in folders
    for path in (tmp_path / "out").glob("genre=*/part-*.parquet"):
        genres = set(pyarrow.parquet.ParquetFile(path).read()["top_genre"].to_pylist())
        assert genres == {None} or path.parent.name == f"genre={genres.pop()}"


def test_errors_may_end_the_job_or_change_its_exit_code(job: Job, tmp_path: Path) -> None:
    make_songs(tmp_path / "songs")
    assert run_job(job(tmp_path / "songs", out=str(tmp_path / "a"), fail_on_error=True)) == 1
    assert run_job(job(tmp_path / "songs", out=str(tmp_path / "b"), max_error_rate=0.1)) == 3


def test_results_are_not_overwritten_or_mixed_by_accident(job: Job, tmp_path: Path) -> None:
    make_songs(tmp_path / "songs")
    arguments = [
        str(tmp_path / "songs"), "--out", str(tmp_path / "out"), "--limit", "3",
        "--checkpoint", str(job().model), "--concurrency", "1", "--progress", "json",
        "--classifiers", "1",
    ]  # fmt: skip

    def run(*changed: str) -> Result:
        return CliRunner().invoke(app, ["batch", *changed])

    first = run(*arguments)
    assert first.exit_code == 0, first.output
    line = json.loads(first.stderr.splitlines()[-1])
    assert (line["files"], line["of"]) == (3, 3)
    again = run(*arguments)
    assert again.exit_code == 2
    assert "has results already: --resume continues" in again.stderr
    other = run(*arguments, "--resume", "--effort", "fast")
    assert other.exit_code == 2
    assert "effort was balanced, is fast" in other.stderr
    nothing_left = run(*arguments, "--resume", "--concurrency", "500")
    assert nothing_left.exit_code == 0
    changed = [*arguments[:4], "5", *arguments[5:]]
    too_many = run(*changed, "--resume", "--concurrency", "500")
    assert too_many.exit_code == 2
    assert "need 250.5 CPUs, the cluster has 8" in too_many.stderr
