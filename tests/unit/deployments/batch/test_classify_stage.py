"""Second stage of a batch job, called directly: every row equals the pipeline's answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from acoustic.classify.classifier import Classifier
from acoustic.pipeline import Pipeline, PipelineConfig
from acoustic.postprocess.postprocess_config import PostprocessConfig
from acoustic.prediction import Prediction
from acoustic.request import Effort, RequestOptions
from deployments.batch.classify_stage import ClassifyStage
from deployments.batch.job_options import JobOptions
from deployments.batch.preprocess_stage import PreprocessStage
from deployments.batch.schema import COSTS, LEFT_OUT, ROWS
from deployments.config import ServiceConfig
from tests.support.chunks import file_table, rows_of, sound_in_first_round, write_files
from tests.support.sounds import encode, noise, sweep

SONGS = {
    "sweep.wav": encode(sweep(40.0), 22_050),
    "noise.flac": encode(noise(31.0), 22_050, "flac"),
    "short.wav": encode(sweep(4.0), 22_050),
}
JUNK = {"junk.mp3": b"not audio " * 50, "empty.wav": b""}
ALWAYS = PostprocessConfig(auto_margin=1.0)
"""Settings by which effort auto evaluates every round."""

Run = Callable[..., pa.Table]


@pytest.fixture
def stages(tiny_checkpoint: Path) -> Callable[..., tuple[PreprocessStage, ClassifyStage]]:
    def make(
        request: RequestOptions, postprocess: PostprocessConfig
    ) -> tuple[PreprocessStage, ClassifyStage]:
        options = JobOptions(sources=("/songs",), out="/out", request=request)
        settings = (tiny_checkpoint, ServiceConfig(postprocess=postprocess), options)
        return PreprocessStage(*settings), ClassifyStage(*settings)

    return make


@pytest.fixture
def run(stages: Any, tmp_path: Path) -> Run:
    def both(
        contents: dict[str, bytes],
        request: RequestOptions | None = None,
        postprocess: PostprocessConfig | None = None,
    ) -> pa.Table:
        first, second = stages(request or RequestOptions(), postprocess or PostprocessConfig())
        return second(first(file_table(write_files(tmp_path, contents))))

    return both


def check_row(row: dict[str, Any], expected: Prediction) -> None:
    for name, value in expected.to_dict().items():
        if name not in LEFT_OUT:
            assert row[name] == value, name
    assert not set(LEFT_OUT) & set(row)
    assert (row["error_code"], row["error_message"]) == ("", "")


@pytest.mark.parametrize("effort", ["fast", "balanced", "thorough", "auto"])
def test_rows_are_the_pipelines_answers(run: Run, tiny_checkpoint: Path, effort: Effort) -> None:
    rows = rows_of(run(SONGS, RequestOptions(effort=effort)))
    pipeline = Pipeline.from_folder(tiny_checkpoint)
    for row, data in zip(rows, SONGS.values(), strict=True):
        check_row(row, pipeline.classify(data, RequestOptions(effort=effort)))


@pytest.mark.parametrize(("margin", "n_windows"), [(0.0, 3), (1.0, 10)])
def test_effort_auto_evaluates_the_rounds_that_it_needs(
    run: Run, tiny_checkpoint: Path, margin: float, n_windows: int
) -> None:
    postprocess = PostprocessConfig(auto_margin=margin)
    request = RequestOptions(effort="auto")
    (row,) = rows_of(run({"a.wav": SONGS["sweep.wav"]}, request, postprocess))
    assert len(row["segments"]) == n_windows
    pipeline = Pipeline.from_folder(tiny_checkpoint, PipelineConfig(postprocess=postprocess))
    check_row(row, pipeline.classify(SONGS["sweep.wav"], request))


def test_a_silent_rest_of_a_track_is_answered_by_its_first_round(
    run: Run, tiny_checkpoint: Path
) -> None:
    pipeline = Pipeline.from_folder(tiny_checkpoint, PipelineConfig(postprocess=ALWAYS))
    data = sound_in_first_round(pipeline.preprocessor.config.mel.window_s, 120.0)
    request = RequestOptions(effort="auto")
    rows = rows_of(run({"quiet.wav": data, "a.wav": SONGS["sweep.wav"]}, request, ALWAYS))
    assert [len(row["segments"]) for row in rows] == [3, 10]
    check_row(rows[0], pipeline.classify(data, request))
    check_row(rows[1], pipeline.classify(SONGS["sweep.wav"], request))


def test_the_options_of_the_job_reach_every_row(run: Run) -> None:
    rows = rows_of(run(SONGS, RequestOptions(effort="fast", top_k=2, coverage=0.5)))
    assert [len(row["predictions"]) for row in rows] == [2, 2, 2]
    assert [row["prediction_set"]["coverage"] for row in rows] == [0.5] * 3


def test_files_with_an_error_keep_their_place_and_their_error(run: Run) -> None:
    mixed = {"0.wav": SONGS["short.wav"], **JUNK, "1.wav": SONGS["short.wav"]}
    rows = rows_of(run(mixed, RequestOptions(effort="fast")))
    codes = ["", "unsupported_audio", "invalid_request", ""]
    assert [row["error_code"] for row in rows] == codes
    assert [row.get("top_genre") is not None for row in rows] == [not code for code in codes]
    assert rows[0]["predictions"] == rows[3]["predictions"]


def test_a_chunk_of_broken_files_only_does_not_run_the_model(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifier, "classify", None)  # fails if it is called
    table = run(JUNK)
    assert table.schema == ROWS
    assert [row["error_code"] for row in rows_of(table)] == ["unsupported_audio", "invalid_request"]


def test_the_costs_of_both_stages_are_in_the_row(run: Run) -> None:
    rows = rows_of(run({**SONGS, **JUNK}, RequestOptions(effort="fast")))
    assert all(set(COSTS) <= set(row) for row in rows)
    assert len({row["classify_s"] for row in rows}) == 1, "the chunk's time in equal shares"
    assert rows[0]["classify_s"] > 0


def test_a_track_that_breaks_the_model_fails_alone(
    run: Run, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classify = Classifier.classify

    def fail(self: Classifier, tracks: Any) -> Any:
        if any(track.facts.info.format == "FLAC" for track in tracks):
            raise RuntimeError("CUDA error: /home/secret")
        return classify(self, tracks)

    expected = Pipeline.from_folder(tiny_checkpoint).classify(SONGS["short.wav"])
    monkeypatch.setattr(Classifier, "classify", fail)
    sweep_row, failed, short_row = rows_of(run(SONGS))
    assert failed["error_code"] == "classification_failed"
    assert failed["error_message"] == "the model failed on this track"
    assert sweep_row["error_code"] == ""
    check_row(short_row, expected)


def test_an_unsupported_coverage_is_an_error_of_every_file(run: Run) -> None:
    rows = rows_of(run(SONGS, RequestOptions(effort="fast", coverage=0.7)))
    assert [row["error_code"] for row in rows] == ["invalid_option"] * 3


@pytest.mark.parametrize("where", [0, 40, -1])
def test_features_damaged_between_the_stages_are_never_answered(
    stages: Any, tmp_path: Path, where: int
) -> None:
    first, second = stages(RequestOptions(effort="fast"), PostprocessConfig())
    table = first(file_table(write_files(tmp_path, {"a.wav": SONGS["short.wav"]})))
    damaged = bytearray(table["rounds"][0].as_py()[0])
    damaged[where] ^= 1
    rounds = pa.array([[bytes(damaged)]], type=table.schema.field("rounds").type)
    broken = table.set_column(2, "rounds", rounds)
    with pytest.raises(ValueError, match="features were damaged"):
        second(broken)
    assert rows_of(second(table))[0]["error_code"] == ""


def test_a_row_does_not_depend_on_its_chunk(run: Run) -> None:
    request = RequestOptions(effort="thorough")
    together = rows_of(run(SONGS, request))
    for row, (name, data) in zip(together, SONGS.items(), strict=True):
        (alone,) = rows_of(run({name: data}, request))
        assert {k: v for k, v in alone.items() if k not in COSTS} == {
            k: v for k, v in row.items() if k not in COSTS
        }


def test_settings_of_the_service_are_used(run: Run) -> None:
    data = {"a.wav": SONGS["short.wav"]}
    lenient = replace(PostprocessConfig(), auto_margin=0.5)
    first, second = rows_of(run(data))[0], rows_of(run(data, None, lenient))[0]
    assert first["config_digest"] != second["config_digest"]
