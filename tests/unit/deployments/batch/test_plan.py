"""What a job has to do: files without a row, draws that repeat, and outputs it must not mix."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.errors import (
    AcousticError,
    AudioTooShortError,
    ClassificationError,
    ConfigError,
    SourceUnavailableError,
)
from acoustic.postprocess.postprocess_config import PostprocessConfig
from acoustic.preprocess.preprocessor import PreprocessConfig
from acoustic.request import RequestOptions
from deployments.batch.job_options import JobOptions
from deployments.batch.parts import list_parts, write_part
from deployments.batch.plan import JOB_FILE, Plan, make_plan, record_job
from deployments.batch.schema import row_schema
from deployments.config import ServiceConfig
from tests.support.chunks import failed_row, write_files
from tests.support.models import save_tiny_checkpoint

N_SONGS = 8
SHORT = AudioTooShortError("0.3 s, limit is 1 s")
DOWN = SourceUnavailableError("down")


@pytest.fixture
def config(tiny_checkpoint: Path) -> ServiceConfig:
    return ServiceConfig(checkpoint=str(tiny_checkpoint))


@pytest.fixture
def options(tmp_path: Path) -> JobOptions:
    write_files(tmp_path / "songs", {f"{i}.wav": b"x" for i in range(N_SONGS)})
    return JobOptions(sources=(str(tmp_path / "songs"),), out=str(tmp_path / "out"))


def finish(options: JobOptions, names: Sequence[str], error: AcousticError = SHORT) -> None:
    """Write a part with a row for each of some files."""
    rows = [failed_row(f"{options.sources[0]}/{name}.wav", error) for name in names]
    write_part(rows, row_schema([]), options)


def stems(plan: Plan) -> list[str]:
    return [Path(file.uri).stem for file in plan.files]


def test_a_new_job_does_everything(options: JobOptions, config: ServiceConfig) -> None:
    plan = make_plan(options, config)
    assert stems(plan) == [str(i) for i in range(N_SONGS)]
    assert (plan.n_listed, plan.n_finished, plan.retried, plan.extras) == (N_SONGS, 0, {}, [])
    assert not Path(options.out).exists(), "to plan writes nothing"


def test_a_limit_takes_the_first_files(options: JobOptions, config: ServiceConfig) -> None:
    assert stems(make_plan(replace(options, limit=3), config)) == ["0", "1", "2"]
    assert len(stems(make_plan(replace(options, limit=99), config))) == N_SONGS


def test_a_sample_repeats_with_its_seed_in_the_order_of_the_listing(
    options: JobOptions, config: ServiceConfig
) -> None:
    def drawn(seed: int) -> list[str]:
        return stems(make_plan(replace(options, sample=4, seed=seed), config))

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(10)}) > 1
    for seed in range(10):
        assert len(set(drawn(seed))) == 4
        assert drawn(seed) == sorted(drawn(seed))


def test_a_sample_of_more_than_all_is_all(options: JobOptions, config: ServiceConfig) -> None:
    assert len(make_plan(replace(options, sample=N_SONGS + 1), config).files) == N_SONGS


def test_a_limit_applies_to_the_sample(options: JobOptions, config: ServiceConfig) -> None:
    sample = stems(make_plan(replace(options, sample=5), config))
    assert stems(make_plan(replace(options, sample=5, limit=2), config)) == sample[:2]


def test_columns_of_manifests_are_collected_once(tmp_path: Path, config: ServiceConfig) -> None:
    (tmp_path / "a.csv").write_text("uri,label,year\n/a.wav,x,1\n")
    (tmp_path / "b.csv").write_text("uri,mood,label\n/b.wav,y,2\n")
    sources = (str(tmp_path / "a.csv"), str(tmp_path / "b.csv"))
    plan = make_plan(JobOptions(sources=sources, out=str(tmp_path / "out")), config)
    assert plan.extras == ["label", "year", "mood"]


def test_results_are_never_extended_unasked(options: JobOptions, config: ServiceConfig) -> None:
    record_job(options, config)
    make_plan(options, config)  # a job that wrote no row yet may be started again
    finish(options, "12")
    with pytest.raises(ConfigError, match="has results already: --resume continues"):
        make_plan(options, config)


@pytest.mark.parametrize("existing", ["resume", "skip"])
def test_files_with_a_row_are_finished(
    options: JobOptions, config: ServiceConfig, existing: Any
) -> None:
    record_job(options, config)
    finish(options, "12")
    finish(options, "5")
    plan = make_plan(replace(options, existing=existing), config)
    assert stems(plan) == ["0", "3", "4", "6", "7"]
    assert (plan.n_listed, plan.n_finished, plan.retried) == (N_SONGS, 3, {})


def test_rows_of_files_that_are_gone_do_not_count(
    options: JobOptions, config: ServiceConfig
) -> None:
    record_job(options, config)
    finish(options, ["1", "deleted"])
    plan = make_plan(replace(options, existing="resume"), config)
    assert (plan.n_listed, plan.n_finished) == (N_SONGS, 1)


OTHER_SETTINGS: dict[str, dict[str, Any]] = {
    "effort was balanced, is fast": {"request": RequestOptions(effort="fast")},
    "top_k was None, is 3": {"request": RequestOptions(top_k=3)},
    "coverage was None, is 0.5": {"request": RequestOptions(coverage=0.5)},
    "read was whole, is ranged": {"read": "ranged"},
    "format was parquet, is csv": {"format": "csv"},
    "partition_by_genre was False, is True": {"partition_by_genre": True},
}
ALWAYS_REFUSED = ("format", "partition_by_genre")


@pytest.mark.parametrize("message", OTHER_SETTINGS)
def test_resume_refuses_other_options(
    options: JobOptions, config: ServiceConfig, message: str
) -> None:
    record_job(options, config)
    finish(options, "1")
    other = replace(options, existing="resume", **OTHER_SETTINGS[message])
    with pytest.raises(ConfigError, match=f"results of another job: {message}; use --skip"):
        make_plan(other, config)
    skipping = replace(other, existing="skip")
    if message.startswith(ALWAYS_REFUSED):
        with pytest.raises(ConfigError, match=f"results of another job: {message}$"):
            make_plan(skipping, config)
    else:
        assert make_plan(skipping, config).n_finished == 1


def test_resume_refuses_another_model_and_other_settings(
    options: JobOptions, config: ServiceConfig, tmp_path: Path
) -> None:
    record_job(options, config)
    finish(options, "1")
    resumed = replace(options, existing="resume")
    others = {
        "settings": [
            replace(config, postprocess=PostprocessConfig(auto_margin=0.5)),
            replace(config, preprocess=PreprocessConfig(silence_db=-60.0)),
        ],
        "model": [replace(config, checkpoint=str(_other_checkpoint(tmp_path / "other")))],
    }
    for name, configs in others.items():
        for each in configs:
            with pytest.raises(ConfigError, match=f"another job: {name} was"):
                make_plan(resumed, each)
    assert make_plan(resumed, config).n_finished == 1


def _other_checkpoint(folder: Path) -> Path:
    save_tiny_checkpoint(folder)
    manifest = folder / "config.json"
    before = CheckpointFolder.open(folder).digest
    manifest.write_text(manifest.read_text().replace('"tiny"', '"other"'))
    calibration = folder / "calibration.json"
    after = CheckpointFolder.open(folder).digest
    assert before != after
    calibration.write_text(calibration.read_text().replace(before, after))
    return folder


@pytest.mark.parametrize("name", ["limit", "chunk_files", "read_threads", "preprocess_actors"])
def test_what_changes_no_row_may_change(
    options: JobOptions, config: ServiceConfig, name: str
) -> None:
    record_job(options, config)
    finish(options, "1")
    plan = make_plan(replace(options, existing="resume", **{name: 7}), config)
    assert plan.n_finished == 1


@pytest.mark.parametrize("content", [None, "", "{damaged"])
def test_parts_without_a_usable_record_are_refused(
    options: JobOptions, config: ServiceConfig, content: str | None
) -> None:
    finish(options, "1")
    if content is not None:
        (Path(options.out) / JOB_FILE).write_text(content)
    with pytest.raises(ConfigError, match=f"no usable {JOB_FILE}"):
        make_plan(replace(options, existing="resume"), config)


def test_the_record_says_what_rows_depend_on(options: JobOptions, config: ServiceConfig) -> None:
    record_job(replace(options, request=RequestOptions(effort="auto", top_k=2)), config)
    record = json.loads((Path(options.out) / JOB_FILE).read_text())
    assert record.pop("model")
    assert record.pop("settings")
    assert record == {
        "read": "whole", "effort": "auto", "top_k": 2, "coverage": None, "format": "parquet",
        "partition_by_genre": False, "taxonomy": None,
    }  # fmt: skip


def test_errors_that_a_retry_may_fix_are_planned_again(
    options: JobOptions, config: ServiceConfig
) -> None:
    record_job(options, config)
    finish(options, "12", DOWN)
    finish(options, "3", ClassificationError("failed"))
    finish(options, "4", SHORT)
    resumed = replace(options, existing="resume")
    assert make_plan(resumed, config).n_finished == 4
    plan = make_plan(replace(resumed, retry_errors=True), config)
    assert stems(plan) == ["0", "1", "2", "3", "5", "6", "7"]
    assert plan.n_finished == 1
    assert set(plan.retried) <= set(list_parts(options.out, options.storage))
    planned = {file.id for file in plan.files if Path(file.uri).stem in "123"}
    assert {each for ids in plan.retried.values() for each in ids} == planned


def test_an_error_row_of_an_unlisted_file_is_kept(
    options: JobOptions, config: ServiceConfig
) -> None:
    """Its row would be removed and, as the file is not listed, never written again."""
    record_job(options, config)
    finish(options, ["7", "deleted"], DOWN)
    retrying = replace(options, existing="resume", retry_errors=True)
    assert make_plan(replace(retrying, limit=3), config).retried == {}
    (ids,) = make_plan(retrying, config).retried.values()
    assert len(ids) == 1
