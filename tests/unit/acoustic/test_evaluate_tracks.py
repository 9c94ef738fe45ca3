"""Several tracks at once: one batch a round, each track with its own rounds, options and error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from acoustic.errors import (
    AcousticError,
    AudioDecodeError,
    ClassificationError,
    InvalidOptionError,
    SilentAudioError,
    SourceUnavailableError,
)
from acoustic.labels import Label, LabelSet
from acoustic.pipeline import FeatureSource, Pipeline, PipelineConfig, evaluate_tracks
from acoustic.postprocess.calibration import Calibration, WindowCalibration
from acoustic.postprocess.postprocess_config import PostprocessConfig
from acoustic.postprocess.postprocessor import Postprocessor
from acoustic.prediction import Prediction
from acoustic.request import Effort, RequestOptions
from acoustic.types import TrackFeatures, TrackLogits
from tests.support.sounds import encode, noise, sweep
from tests.support.tracks import WINDOW_S, facts_at, track_logits

LABELS = LabelSet([Label(name="Jazz"), Label(name="Rock"), Label(name="Folk")])
POSTPROCESSOR = Postprocessor(
    LABELS,
    Calibration(
        windows={1: WindowCalibration(temperature=1.0)},
        checkpoint_digest="",
        dataset="none",
        n_tracks=1,
        date="2026-01-01",
    ),
    WINDOW_S,
    PostprocessConfig(auto_margin=0.5),
)
SURE, UNSURE, FAILING = 50, 0, 255
"""Level of a window → logit of Jazz, in tenths; the fake model fails on FAILING."""

Round = Sequence[int] | AcousticError


class Model:
    """A fake model whose logits follow from its input, and which records its batches."""

    def __init__(self) -> None:
        self.batches: list[list[list[int]]] = []

    def classify(self, batch: Sequence[TrackFeatures]) -> list[TrackLogits | Exception]:
        levels = [each.log_mel[:, 0, 0].tolist() for each in batch]
        self.batches.append(levels)
        return [self._answer(of_track, each) for of_track, each in zip(levels, batch, strict=True)]

    def _answer(self, levels: list[int], features: TrackFeatures) -> TrackLogits | Exception:
        if FAILING in levels:
            return RuntimeError("logits that are not finite")
        starts = [segment.start_s for segment in features.facts.segments]
        rows = [[level / 10, 0.0, -1.0] for level in levels]
        return track_logits(rows, starts, features.facts.n_remaining)


def source(*rounds: Round) -> FeatureSource:
    """Stage 1 of a track: the levels of the windows of each round, or the error of a round."""

    def features(number: int) -> TrackFeatures:
        levels = rounds[number]
        if isinstance(levels, AcousticError):
            raise levels
        starts = [20.0 * i + 5.0 * number for i in range(len(levels))]
        return TrackFeatures(
            log_mel=np.broadcast_to(np.array(levels, np.uint8)[:, None, None], (len(levels), 2, 3)),
            facts=facts_at(starts, n_remaining=3 * (len(rounds) - number - 1)),
        )

    return features


def evaluate(
    model: Model, sources: list[FeatureSource], options: list[RequestOptions] | None = None
) -> list[Prediction | AcousticError]:
    wanted = options or [RequestOptions(effort="auto")] * len(sources)
    return evaluate_tracks(model.classify, POSTPROCESSOR, sources, wanted)


def prediction(outcome: Prediction | AcousticError) -> Prediction:
    assert isinstance(outcome, Prediction)
    return outcome


def test_the_windows_of_all_tracks_go_to_the_model_together() -> None:
    model = Model()
    names = [RequestOptions(file=f"{i}.wav") for i in range(3)]
    found = evaluate(model, [source([SURE]), source([SURE] * 3), source([SURE] * 10)], names)
    assert model.batches == [[[SURE], [SURE] * 3, [SURE] * 10]]
    assert [prediction(each).file for each in found] == ["0.wav", "1.wav", "2.wav"]
    assert [len(prediction(each).segments) for each in found] == [1, 3, 10]


def test_no_track_needs_no_model() -> None:
    model = Model()
    assert evaluate(model, []) == []
    assert model.batches == []


def test_only_tracks_that_are_unsure_take_part_in_the_next_round() -> None:
    model = Model()
    found = evaluate(
        model,
        [
            source([SURE] * 3, [SURE]),
            source([UNSURE] * 3, [SURE] * 3),
            source([UNSURE] * 3, [UNSURE] * 3, [UNSURE] * 4),
        ],
    )
    assert [len(batch) for batch in model.batches] == [3, 2, 1]
    assert [len(prediction(each).segments) for each in found] == [3, 6, 10]
    later = prediction(found[1]).segments
    assert list(later) == sorted(later)


def test_a_later_round_is_answered_by_all_windows_so_far() -> None:
    """Nine windows that favour Jazz outweigh three that favour nothing, and not the reverse."""
    mixed = source([UNSURE] * 3, [SURE] * 9)
    (found,) = evaluate(Model(), [mixed])
    expected = POSTPROCESSOR.process(track_logits([[0.0, 0.0, -1.0]] * 3 + [[5.0, 0.0, -1.0]] * 9))
    assert prediction(found).confidence == pytest.approx(expected.confidence)


def test_a_track_that_cannot_be_read_fails_alone() -> None:
    model, error = Model(), AudioDecodeError("damaged")
    found = evaluate(model, [source([SURE]), source(error), source([SURE])])
    assert found[1] is error
    assert model.batches == [[[SURE], [SURE]]]
    assert [prediction(found[i]).top_genre for i in (0, 2)] == ["Jazz", "Jazz"]


def test_the_model_is_not_called_where_every_track_failed() -> None:
    model, errors = Model(), [AudioDecodeError("damaged"), SourceUnavailableError("no answer")]
    assert evaluate(model, [source(each) for each in errors]) == errors
    assert model.batches == []


def test_a_track_on_which_the_model_fails_has_an_error_with_its_cause() -> None:
    found = evaluate(Model(), [source([SURE]), source([FAILING])])
    assert prediction(found[0]).top_genre == "Jazz"
    assert isinstance(found[1], ClassificationError)
    assert isinstance(found[1].__cause__, RuntimeError)


@pytest.mark.parametrize("n_rounds", [1, 2])
def test_a_silent_later_round_leaves_the_answer_of_those_before(n_rounds: int) -> None:
    rounds = [[UNSURE] * 3] * n_rounds
    (found,) = evaluate(Model(), [source(*rounds, SilentAudioError("silent"), [SURE] * 3)])
    assert len(prediction(found).segments) == 3 * n_rounds


def test_a_store_that_stops_answering_is_not_a_result() -> None:
    """A retry may read the rest; an InputError would fail again."""
    error = SourceUnavailableError("no answer")
    assert evaluate(Model(), [source([UNSURE] * 3, error)]) == [error]


def test_a_model_that_fails_in_a_later_round_is_not_a_result() -> None:
    (found,) = evaluate(Model(), [source([UNSURE] * 3, [FAILING])])
    assert isinstance(found, ClassificationError)


def test_an_option_that_the_model_does_not_support_is_the_error_of_its_track() -> None:
    options = [RequestOptions(), RequestOptions(top_k=4), RequestOptions(coverage=0.9)]
    found = evaluate(Model(), [source([SURE])] * 3, options)
    assert prediction(found[0]).top_genre == "Jazz"
    assert isinstance(found[1], InvalidOptionError)
    assert "limits are 1 to 3" in found[1].message
    assert isinstance(found[2], InvalidOptionError)
    assert "0.9 is not supported" in found[2].message


def test_a_failure_of_the_whole_batch_is_raised() -> None:
    def classify(batch: Sequence[TrackFeatures]) -> list[TrackLogits]:
        raise MemoryError("out of memory")

    with pytest.raises(MemoryError):
        evaluate_tracks(classify, POSTPROCESSOR, [source([SURE])], [RequestOptions()])


def test_together_and_alone_are_the_same_answers(tiny_checkpoint: Path) -> None:
    """With a real model: auto, fast and a broken file in one call equal three calls."""
    config = PipelineConfig(postprocess=PostprocessConfig(auto_margin=1.0))
    pipeline = Pipeline.from_folder(tiny_checkpoint, config)
    files = [encode(sweep(40.0), 22_050), b"no audio", encode(noise(20.0), 22_050)]
    efforts: list[Effort] = ["auto", "auto", "fast"]

    def stage_1(data: bytes, effort: Effort) -> FeatureSource:
        return lambda number: pipeline.preprocessor.process(data, effort, number)

    found = evaluate_tracks(
        pipeline.classifier.classify,
        pipeline.postprocessor,
        [stage_1(data, effort) for data, effort in zip(files, efforts, strict=True)],
        [RequestOptions(effort=effort, timeline=True) for effort in efforts],
    )
    assert isinstance(found[1], AcousticError)
    for i in (0, 2):
        alone = pipeline.classify(files[i], RequestOptions(effort=efforts[i], timeline=True))
        assert prediction(found[i]).predictions == alone.predictions
        assert prediction(found[i]).timeline == alone.timeline
