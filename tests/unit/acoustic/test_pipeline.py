"""The three stages in one process, and the schema of a prediction."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest

from acoustic.errors import InputError, InvalidOptionError
from acoustic.example import example_wav
from acoustic.golden import golden_clip
from acoustic.pipeline import Pipeline, PipelineConfig
from acoustic.postprocess.postprocess_config import PostprocessConfig
from acoustic.postprocess.reasons import ReviewThresholds
from acoustic.preprocess.segments import plan_rounds
from acoustic.request import RequestOptions
from tests.support.schema import check_schema
from tests.support.sounds import encode, noise, sweep


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint: Path) -> Pipeline:
    return Pipeline.from_folder(tiny_checkpoint)


@pytest.mark.parametrize("timeline", [False, True])
def test_the_reply_is_strict_json_of_the_documented_schema(
    pipeline: Pipeline, timeline: bool
) -> None:
    body = pipeline.classify(
        example_wav(30), RequestOptions(file="chord.wav", timeline=timeline)
    ).to_dict()
    parsed = json.loads(json.dumps(body, allow_nan=False))
    check_schema(parsed)
    assert parsed["file"] == "chord.wav"
    assert ("timeline" in parsed) == timeline


def test_the_numbers_fit_together(pipeline: Pipeline) -> None:
    body = pipeline.classify(
        encode(sweep(40.0), 22_050), RequestOptions(top_k=16, timeline=True)
    ).to_dict()
    values = [score["probability"] for score in body["predictions"]]
    assert sum(values) == pytest.approx(1.0, abs=1e-5)
    assert values == sorted(values, reverse=True)
    assert body["top_genre"] == body["predictions"][0]["genre"]
    assert body["uncertainty"]["margin"] == pytest.approx(1 - values[0] + values[1], abs=2e-6)
    assert len(body["timeline"]) == len(body["segments"]) == 3
    assert body["needs_review"] == bool(body["reasons"])
    stages = {
        "hash",
        "decode",
        "resample",
        "mel",
        "quality",
        "descriptors",
        "inference",
        "postprocess",
    }
    assert set(body["timings_ms"]) == stages


def test_temperature_follows_the_number_of_windows(pipeline: Pipeline) -> None:
    data = encode(noise(60.0), 22_050)
    found = {
        effort: pipeline.classify(data, RequestOptions(effort=effort)).model.temperature  # type: ignore[arg-type]
        for effort in ("fast", "balanced", "thorough")
    }
    assert found == {"fast": 1.5, "balanced": 1.2, "thorough": 1.0}


def test_settings_change_the_flag_and_the_digest(tiny_checkpoint: Path) -> None:
    data = golden_clip()  # a chord of low notes
    lenient = ReviewThresholds(min_confidence=0, min_margin=0, min_bandwidth_hz=0)
    config = PipelineConfig(postprocess=PostprocessConfig(review=lenient))
    relaxed = Pipeline.from_folder(tiny_checkpoint, config).classify(data)
    strict = Pipeline.from_folder(tiny_checkpoint).classify(data)
    assert {"NARROW_BAND"} <= {reason.code for reason in strict.reasons}
    assert "NARROW_BAND" not in {reason.code for reason in relaxed.reasons}
    assert relaxed.config_digest != strict.config_digest
    assert relaxed.predictions == strict.predictions


def test_top_k_has_limits(pipeline: Pipeline) -> None:
    with pytest.raises(InvalidOptionError, match="top_k is 17, limits are 1 to 16"):
        pipeline.classify(example_wav(), RequestOptions(top_k=17))


def test_the_prediction_set_has_the_wanted_coverage(
    pipeline: Pipeline, tiny_checkpoint: Path
) -> None:
    usual = pipeline.classify(example_wav()).prediction_set
    small = pipeline.classify(example_wav(), RequestOptions(coverage=0.5)).prediction_set
    assert usual is not None
    assert small is not None
    assert (usual.coverage, small.coverage) == (0.9, 0.5)
    assert set(small.genres) <= set(usual.genres)
    with pytest.raises(InvalidOptionError, match=r"0\.99 is not supported.* rests on 30 tracks"):
        pipeline.classify(example_wav(), RequestOptions(coverage=0.99))
    with pytest.raises(InvalidOptionError, match=r"0\.905, limits are 0\.50 to 0\.99 in steps"):
        pipeline.classify(example_wav(), RequestOptions(coverage=0.905))
    unsupported = PipelineConfig(postprocess=PostprocessConfig(coverage=0.99))
    found = Pipeline.from_folder(tiny_checkpoint, unsupported).classify(example_wav())
    assert found.prediction_set is None


def test_one_answer_may_list_the_sets_of_all_coverages(default_checkpoint: Path) -> None:
    stages = Pipeline.from_folder(default_checkpoint)
    data = example_wav(30)
    plain = stages.classify(data)
    assert plain.prediction_sets is None
    sets = stages.classify(data, RequestOptions(sets=True)).prediction_sets
    assert sets is not None
    assert [each.coverage for each in sets] == sorted({each.coverage for each in sets})
    assert plain.prediction_set in sets
    for smaller, larger in itertools.pairwise(sets):
        assert set(smaller.genres) <= set(larger.genres)
    for each in (sets[0], sets[len(sets) // 2], sets[-1]):
        alone = stages.classify(data, RequestOptions(coverage=each.coverage))
        assert alone.prediction_set == each


def test_a_file_keeps_its_name(pipeline: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "some song.wav"
    path.write_bytes(example_wav())
    assert pipeline.classify_file(path).file == "some song.wav"


def test_a_bad_file_is_an_input_error(pipeline: Pipeline) -> None:
    with pytest.raises(InputError):
        pipeline.classify(b"no audio in here")


def auto(tiny_checkpoint: Path, margin: float) -> Pipeline:
    config = PipelineConfig(postprocess=PostprocessConfig(auto_margin=margin))
    return Pipeline.from_folder(tiny_checkpoint, config)


def test_auto_listens_on_only_while_the_answer_is_close(tiny_checkpoint: Path) -> None:
    data = encode(sweep(90.0), 22_050)
    satisfied = auto(tiny_checkpoint, 0.0).classify(data, RequestOptions(effort="auto"))
    assert len(satisfied.segments) == 3
    never = auto(tiny_checkpoint, 1.0).classify(data, RequestOptions(effort="auto", timeline=True))
    thorough = auto(tiny_checkpoint, 1.0).classify(
        data, RequestOptions(effort="thorough", timeline=True)
    )
    assert never.segments == thorough.segments
    assert never.timeline == thorough.timeline
    assert never.predictions == thorough.predictions
    assert never.prediction_set == thorough.prediction_set
    assert never.uncertainty == thorough.uncertainty
    quality, whole = never.quality, thorough.quality
    assert quality.rms_db == pytest.approx(whole.rms_db, abs=0.01)
    assert quality.bandwidth_hz == pytest.approx(whole.bandwidth_hz, rel=0.05)
    assert never.timings_ms["inference"] > satisfied.timings_ms["inference"] / 10


def test_auto_answers_by_what_it_heard_when_the_rest_is_silent(tiny_checkpoint: Path) -> None:
    """Only the windows of the first round of a 66 s track contain sound."""
    pipeline = auto(tiny_checkpoint, 1.0)
    samples = noise(66.0)
    first, second = plan_rounds(66.0, pipeline.preprocessor.config.mel.window_s, "auto")[:2]
    for segment in second:
        samples[int(segment.start_s * 22_050) : int(segment.end_s * 22_050)] = 0
    found = pipeline.classify(encode(samples, 22_050), RequestOptions(effort="auto"))
    assert found.segments == tuple((each.start_s, each.end_s) for each in first)


def test_a_short_track_has_one_round(tiny_checkpoint: Path) -> None:
    found = auto(tiny_checkpoint, 1.0).classify(
        encode(noise(3.0), 22_050), RequestOptions(effort="auto")
    )
    assert len(found.segments) == 1


def test_a_checkpoint_without_calibration_classifies_and_says_so(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "uncalibrated"
    shutil.copytree(tiny_checkpoint, folder)
    (folder / "calibration.json").unlink()
    pipeline = Pipeline.from_folder(folder)
    found = pipeline.classify(example_wav(20.0))
    assert found.prediction_set is None
    assert found.reasons[0].code == "NOT_CALIBRATED"
    assert "not calibrated" in found.reasons[0].message
    assert found.model.temperature == 1
    with pytest.raises(InvalidOptionError, match="coverage"):
        pipeline.classify(example_wav(20.0), RequestOptions(coverage=0.8))
