"""What a batch job checks before Ray is started, and what it prints."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from ray.exceptions import RayTaskError

from acoustic.errors import ConfigError, InvalidOptionError, SourceUnavailableError
from acoustic.request import RequestOptions
from deployments.batch import job as module
from deployments.batch.job import _cause, _check_resources, _chunk, _settings, estimate, run_job
from deployments.batch.job_options import JobOptions
from deployments.batch.source_file import SourceFile
from tests.support.sounds import encode, noise


@pytest.fixture
def job(tmp_path: Path, tiny_checkpoint: Path) -> JobOptions:
    folder = tmp_path / "songs"
    folder.mkdir()
    for i in range(3):
        (folder / f"{i}.wav").write_bytes(encode(noise(8.0, seed=i), 22_050))
    return JobOptions(
        sources=(str(folder),), out=str(tmp_path / "out"), model=tiny_checkpoint, progress="quiet"
    )


@pytest.mark.parametrize(
    ("request_options", "error", "message"),
    [
        (RequestOptions(top_k=17), InvalidOptionError, "top_k is 17, limits are 1 to 16"),
        (RequestOptions(coverage=0.99), ConfigError, "does not support a coverage of 0.99"),
    ],
)
def test_what_every_file_would_fail_on_is_refused_at_the_start(
    job: JobOptions, request_options: RequestOptions, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_job(replace(job, request=request_options))
    assert not Path(job.out).exists()


def test_the_model_of_the_options_replaces_that_of_the_settings(
    job: JobOptions, tiny_checkpoint: Path
) -> None:
    assert _settings(job).checkpoint_folder == tiny_checkpoint
    assert _settings(replace(job, model=None)).checkpoint_folder.name == "default"


@pytest.mark.parametrize(
    ("n_preprocess", "n_classify", "n_cpus", "n_gpus", "message"),
    [
        (8, 4, 4.0, None, "8 decoding and 4 classifying processes need 5.7 CPUs"),
        (1, 3, 8.0, 2.0, "--classifiers is 3, limit is 2: one per GPU"),
    ],
)
def test_too_few_resources_are_named_instead_of_waited_for(
    n_preprocess: int, n_classify: int, n_cpus: float, n_gpus: float | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        _check_resources(n_preprocess, n_classify, n_cpus, n_gpus)


def test_enough_resources_pass() -> None:
    _check_resources(2, 1, 2.0, None)
    _check_resources(2, 2, 4.0, 2.0)


def test_a_dry_run_classifies_a_sample_and_writes_nothing(
    job: JobOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_job(replace(job, dry_run=True, sample=2)) == 0
    output = capsys.readouterr().out
    assert "2 files listed, 0 finished before" in output
    assert "2 files to do" in output
    assert "ms of CPU per file, measured on 2" in output
    assert not Path(job.out).exists()


def test_an_estimate_of_nothing(job: JobOptions) -> None:
    assert "nothing" in estimate([], job, _settings(job))


def test_a_job_without_files_is_done_without_ray(
    job: JobOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.ray, "init", lambda **options: pytest.fail("Ray was started"))
    empty = tmp_path / "empty.csv"
    empty.write_text("uri\n")
    assert run_job(replace(job, sources=(str(empty),))) == 0
    assert json.loads((Path(job.out) / "_report.json").read_text())["n_rows"] == 0


def test_files_travel_as_json() -> None:
    file = SourceFile(uri="s3://b/ä.mp3", size_bytes=3, extras={"label": "Jazz"})
    (text,) = _chunk([file])["file"].to_pylist()
    assert SourceFile(**json.loads(text)) == file


def test_the_cause_of_a_failure_is_one_line() -> None:
    assert _cause(SourceUnavailableError("the store failed")) == "the store failed"
    error = RayTaskError("f", "Traceback …\nValueError: no space left", ValueError("x"))
    assert "\n" not in _cause(error)
    assert "no space left" in _cause(error)
