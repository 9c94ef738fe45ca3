"""The chain of the ingress on fake handles: rounds, retries, translated errors, cancellation."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from ray.exceptions import ActorUnavailableError, ObjectLostError, RayActorError, RayError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
)

from acoustic.content_cache import CacheConfig, sealed
from acoustic.errors import (
    AcousticError,
    AudioDecodeError,
    AudioTooShortError,
    ClassificationError,
    InvalidOptionError,
    ModelMismatchError,
    OverloadedError,
    RequestTimeoutError,
    ServiceError,
    SilentAudioError,
    UnavailableError,
    UploadTooLargeError,
)
from acoustic.pipeline import Pipeline
from acoustic.postprocess.postprocess_config import PostprocessConfig
from acoustic.postprocess.postprocessor import Postprocessor
from acoustic.postprocess.rounds import RoundResult, merge_rounds
from acoustic.prediction import Prediction
from acoustic.preprocess.ranged_file import FileParts
from acoustic.request import RequestOptions
from acoustic.types import TrackFeatures
from deployments.config import HttpConfig, ServiceConfig
from deployments.sources import remote_file
from deployments.sources.config import SourcesConfig
from deployments.stages import admission, calls, ingress
from deployments.stages.calls import N_ATTEMPTS
from deployments.stages.ingress import Ingress
from tests.support.handles import Handle, as_task_error, fail_times
from tests.support.series import Recorded
from tests.support.sounds import encode, sweep

WAV = encode(sweep(40.0), 22_050)
AUTO = RequestOptions(effort="auto")
NO_CACHE = CacheConfig(memory_bytes=0, answer_bytes=0)


class Graph:
    """The ingress on handles around the library's own stages.

    Attributes:
        margin: margin up to which effort auto asks for another round.
    """

    def __init__(
        self, checkpoint: Path, pipeline: Pipeline, http: HttpConfig, cache: CacheConfig,
        roots: tuple[str, ...],
    ) -> None:  # fmt: skip
        self.pipeline = pipeline
        self.margin = 1.0
        self.preprocess = Handle(self._preprocess)
        self.classify = Handle(lambda features: self.pipeline.classifier.classify([features])[0])
        self.postprocess = Handle(self._postprocess)
        config = ServiceConfig(
            checkpoint=str(checkpoint), models={"other": str(checkpoint)}, http=http, cache=cache,
            sources=SourcesConfig(roots=roots),
        )  # fmt: skip
        handles: Any = (self.preprocess, self.classify, self.postprocess)
        self.other: Any = tuple(Handle(handle.work) for handle in handles)
        self.ingress = Ingress({"": handles, "other": self.other}, config)

    def postprocessor(self) -> Postprocessor:
        config = PostprocessConfig(auto_margin=self.margin)
        return self.pipeline.postprocessor.with_config(config)

    def _preprocess(
        self, data: bytes, effort: Any, number: int, content: str, parts: FileParts | None
    ) -> TrackFeatures:
        stage = self.pipeline.preprocessor
        if parts is None:
            return stage.process(data, effort, number, content)
        return stage.process_parts(data, parts, effort, number)

    def _postprocess(self, options: RequestOptions, *rounds: Any) -> RoundResult:
        return self.postprocessor().process_round(merge_rounds(rounds), options)

    def run(self, options: RequestOptions | None = None, data: bytes = WAV) -> Prediction:
        return asyncio.run(self.ingress.classify(data, options or RequestOptions()))

    def requests(self) -> dict[str, int]:
        found: dict[str, int] = self.ingress._metrics.to_dict()["requests"]
        return found


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint: Path) -> Pipeline:
    return Pipeline.from_folder(tiny_checkpoint)


@pytest.fixture
def make(
    tiny_checkpoint: Path, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Graph]:
    monkeypatch.setattr("deployments.telemetry.requests.metrics", Recorded())
    for name in ("ResourceMetrics", "use_serve_logger"):
        monkeypatch.setattr(ingress, name, lambda: None)
    monkeypatch.setattr(ingress, "SHARED_BYTES", len(WAV) + 1)

    def graph(cache: CacheConfig = NO_CACHE, roots: tuple[str, ...] = (), **http: Any) -> Graph:
        return Graph(tiny_checkpoint, pipeline, HttpConfig(**http), cache, roots)

    return graph


@pytest.fixture
def graph(make: Callable[..., Graph]) -> Graph:
    return make()


def comparable(prediction: Prediction) -> Prediction:
    return replace(prediction, timings_ms={}, config_digest="", cached=False)


@pytest.mark.parametrize("effort", ["fast", "balanced", "thorough"])
def test_the_answer_is_the_librarys_by_one_round(graph: Graph, effort: Any) -> None:
    options = RequestOptions(effort=effort, top_k=3, file="a.wav")
    found = graph.run(options)
    assert comparable(found) == comparable(graph.pipeline.classify(WAV, options))
    assert graph.preprocess.calls == [(WAV, effort, 0, "", None)]
    assert graph.requests() == {"ok": 1}


@pytest.mark.parametrize("effort", ["fast", "auto"])
def test_what_the_model_sees_is_what_stage_1_makes(graph: Graph, effort: Any) -> None:
    features, mel = asyncio.run(graph.ingress.log_mel(WAV, RequestOptions(effort=effort)))
    expected = graph.pipeline.preprocessor.process(WAV, effort)
    np.testing.assert_array_equal(features.log_mel, expected.log_mel)
    assert mel == graph.pipeline.preprocessor.config.mel
    assert graph.classify.calls == []
    graph.preprocess.work = lambda *arguments: (_ for _ in ()).throw(SilentAudioError("silence"))
    with pytest.raises(SilentAudioError):
        asyncio.run(graph.ingress.log_mel(WAV, RequestOptions()))
    assert graph.requests() == {"silent_audio": 1}


def test_close_answers_get_every_round_and_each_is_evaluated_once(graph: Graph) -> None:
    prediction = graph.run(AUTO)
    assert len(prediction.segments) == 10
    assert [call[2] for call in graph.preprocess.calls] == [0, 1, 2]
    assert len(graph.classify.calls) == 3
    assert [len(call) - 1 for call in graph.postprocess.calls] == [1, 2, 3]


def test_clear_answers_end_after_the_first_round(graph: Graph) -> None:
    graph.margin = 0.0
    assert len(graph.run(AUTO).segments) == 3
    assert len(graph.preprocess.calls) == 1


def test_stages_pass_their_results_without_the_ingress(graph: Graph) -> None:
    graph.run(AUTO)
    assert [call[0] for call in graph.classify.calls] == graph.preprocess.responses
    assert list(graph.postprocess.calls[-1][1:]) == graph.classify.responses


def test_an_error_of_the_input_keeps_its_class(graph: Graph) -> None:
    with pytest.raises(AudioTooShortError):
        graph.run(AUTO, encode(sweep(0.4), 22_050))
    assert graph.requests() == {"audio_too_short": 1}
    assert len(graph.preprocess.calls) == 1, "the input is at fault: no retry"


@pytest.mark.parametrize("number", [1, 2])
def test_a_later_round_that_fails_leaves_the_answer_before(graph: Graph, number: int) -> None:
    process = graph.preprocess.work

    def silent_later(data: bytes, effort: Any, round_number: int, *rest: Any) -> Any:
        if round_number == number:
            raise as_task_error(SilentAudioError("the rest is silent"))
        return process(data, effort, round_number, *rest)

    graph.preprocess.work = silent_later
    assert len(graph.run(AUTO).segments) == {1: 3, 2: 6}[number]
    assert graph.requests() == {"ok": 1}


@pytest.mark.parametrize("stage", ["preprocess", "classify", "postprocess"])
@pytest.mark.parametrize(
    "death",
    [RayActorError(), ObjectLostError("00" * 28, None, ""), ReplicaUnavailableError("replica")],
    ids=lambda each: type(each).__name__,
)
def test_a_dead_replica_costs_one_retry(graph: Graph, stage: str, death: Exception) -> None:
    handle: Handle = getattr(graph, stage)
    handle.work = fail_times(handle.work, death)
    assert comparable(graph.run()) == comparable(graph.pipeline.classify(WAV))
    assert len(graph.preprocess.calls) == 2
    assert graph.requests() == {"ok": 1}


def test_the_error_of_a_lost_replica_ends_a_wait_for_an_answer_that_never_comes(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "LOOK_EARLIER_S", 0.01)
    graph.classify.work = fail_times(graph.classify.work, ActorUnavailableError("lost", None))
    evaluate = graph.postprocess.work

    async def wait_for_ever_at_first(*arguments: Any) -> Any:
        if len(graph.postprocess.calls) == 1:
            await asyncio.Event().wait()
        return evaluate(*arguments)

    graph.postprocess.pass_on_errors = True
    graph.postprocess.work = wait_for_ever_at_first
    assert graph.run().genre
    assert [each.is_cancelled for each in graph.postprocess.responses] == [True, False]


def test_a_late_answer_is_waited_for(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "LOOK_EARLIER_S", 0.0)
    assert comparable(graph.run()) == comparable(graph.pipeline.classify(WAV))
    stages = (graph.preprocess, graph.classify, graph.postprocess)
    assert [len(stage.calls) for stage in stages] == [1, 1, 1]


def test_a_death_that_serve_wraps_is_retried_too(graph: Graph) -> None:
    wrapped = RayServeException("an argument failed")
    wrapped.__cause__ = RayActorError()
    graph.postprocess.work = fail_times(graph.postprocess.work, as_task_error(wrapped))
    assert graph.run().top_genre
    assert len(graph.preprocess.calls) == 2


def test_a_bug_of_a_stage_is_an_error_of_the_service(graph: Graph) -> None:
    def broken(*_: Any) -> None:
        raise AttributeError("rate")

    for stage in (graph.preprocess, graph.classify, graph.postprocess):
        before, stage.work = stage.work, broken
        with pytest.raises(ServiceError):
            graph.run()
        stage.work = before
    assert graph.requests() == {"service_error": 3}


def test_an_error_that_a_stage_returns_is_the_callers(graph: Graph) -> None:
    returned = SilentAudioError("silence")
    graph.preprocess.work = lambda *_: returned
    graph.classify.work = graph.postprocess.work = lambda *arguments: arguments[-1]
    with pytest.raises(SilentAudioError, match="silence"):
        graph.run()
    with pytest.raises(SilentAudioError, match="silence"):
        asyncio.run(graph.ingress.log_mel(WAV, RequestOptions()))
    assert graph.requests() == {"silent_audio": 2}


def test_stages_of_two_versions_are_tried_again_then_refused(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "MISMATCH_PAUSE_S", 0.0)
    mismatch = ModelMismatchError("a met b")
    graph.postprocess.work = fail_times(graph.postprocess.work, mismatch)
    assert graph.run().top_genre
    graph.classify.work = fail_times(graph.classify.work, *[mismatch] * N_ATTEMPTS)
    with pytest.raises(UnavailableError, match="replaced by another version"):
        graph.run()


def test_silence_is_asked_again_once_it_is_unusual(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "PATIENCE_S", 0.05)
    monkeypatch.setattr(admission, "N_USUAL_TIMES", 0)
    monkeypatch.setattr(calls, "LOOK_S", 0.01)
    graph.run()  # what is usual is known now
    classify, n_calls = graph.classify.work, len(graph.classify.calls)
    silent = [True]

    def lost(*arguments: Any) -> Any:
        return asyncio.Event().wait() if silent and silent.pop() else classify(*arguments)

    graph.classify.work = lost
    assert graph.run().top_genre
    assert len(graph.classify.calls) == n_calls + 2
    assert graph.classify.responses[-2].is_cancelled


def test_without_a_usual_time_nothing_is_given_up_early(
    make: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "PATIENCE_S", 0.01)
    monkeypatch.setattr(calls, "LOOK_S", 0.01)
    graph = make(request_timeout_s=0.1)
    graph.classify.work = lambda *_: asyncio.Event().wait()
    with pytest.raises(RequestTimeoutError):
        graph.run()
    assert len(graph.classify.calls) == 1


def test_a_retry_in_a_later_round_begins_with_the_first(graph: Graph) -> None:
    n_calls = 0
    process = graph.preprocess.work

    def die_once(*arguments: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 2:
            raise RayActorError()
        return process(*arguments)

    graph.preprocess.work = die_once
    assert len(graph.run(AUTO).segments) == 10
    assert [call[2] for call in graph.preprocess.calls] == [0, 1, 0, 1, 2]


def test_a_stage_that_keeps_dying_is_unavailable(graph: Graph) -> None:
    graph.classify.work = fail_times(graph.classify.work, *[RayActorError()] * 9)
    with pytest.raises(UnavailableError, match="died while processing this request"):
        graph.run()
    assert len(graph.preprocess.calls) == N_ATTEMPTS
    assert graph.requests() == {"unavailable": 1}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BackPressureError(9, 9), OverloadedError),
        (as_task_error(BackPressureError(9, 9)), OverloadedError),
        (as_task_error(as_task_error(BackPressureError(9, 9))), OverloadedError),
        (DeploymentUnavailableError(DeploymentID("Classify", "app")), UnavailableError),
        (as_task_error(ClassificationError("the model failed")), ClassificationError),
        (as_task_error(KeyError("/home/secret")), ServiceError),
        (RayServeException("secret"), ServiceError),
        (RayError("secret"), ServiceError),
    ],
    ids=lambda each: getattr(each, "__name__", type(each).__name__),
)
def test_errors_of_ray_are_translated(
    graph: Graph, error: Exception, expected: type[AcousticError]
) -> None:
    graph.classify.work = fail_times(graph.classify.work, error)
    with pytest.raises(AcousticError) as raised:
        graph.run()
    assert type(raised.value) is expected
    assert "secret" not in raised.value.message
    assert raised.value.__cause__ is error
    assert len(graph.preprocess.calls) == 1, "not retried"
    assert graph.requests() == {expected.code: 1}


def test_overload_says_when_to_retry(make: Callable[..., Graph]) -> None:
    graph = make(retry_after_s=7.0)
    graph.preprocess.work = fail_times(graph.preprocess.work, BackPressureError(9, 9))
    with pytest.raises(OverloadedError) as raised:
        graph.run()
    assert raised.value.retry_after_s == 7.0


def test_an_option_that_the_model_cannot_have_reaches_no_stage(graph: Graph) -> None:
    with pytest.raises(InvalidOptionError, match="top_k is 17, limits are 1 to 16"):
        graph.run(RequestOptions(top_k=17))
    assert graph.preprocess.calls == []
    assert graph.requests() == {"invalid_option": 1}


async def wait_for_ever(*arguments: Any) -> None:
    await asyncio.Event().wait()


def test_no_answer_in_time_is_a_timeout_that_cancels_the_stages(
    make: Callable[..., Graph],
) -> None:
    graph = make(request_timeout_s=0.01)
    graph.postprocess.work = wait_for_ever
    with pytest.raises(RequestTimeoutError, match=r"no answer within 0\.01 s"):
        graph.run()
    assert graph.requests() == {"timeout": 1}
    assert graph.preprocess.responses[0].is_cancelled
    assert graph.classify.responses[0].is_cancelled


def test_a_caller_that_leaves_cancels_the_stages(graph: Graph) -> None:
    graph.postprocess.work = wait_for_ever

    async def scenario() -> None:
        task = asyncio.create_task(graph.ingress.classify(WAV, RequestOptions()))
        while not graph.postprocess.calls:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert graph.preprocess.responses[0].is_cancelled
    assert graph.classify.responses[0].is_cancelled
    assert graph.requests() == {"client_gone": 1}, "neither an answer nor an error"


def test_the_service_is_ready_when_every_stage_responds(graph: Graph) -> None:
    asyncio.run(graph.ingress.ready())
    for error in (RayActorError(), RayServeException("x"), TimeoutError()):
        graph.classify.facts_work = fail_times(dict, error)
        with pytest.raises(UnavailableError, match="not ready"):
            asyncio.run(graph.ingress.ready())
    graph.classify.facts_work = fail_times(dict, BackPressureError(9, 9))
    asyncio.run(graph.ingress.ready())  # a full queue is a live stage


def test_a_stage_that_does_not_respond_is_not_ready(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingress, "READY_TIMEOUT_S", 0.01)
    graph.preprocess.facts_work = wait_for_ever
    with pytest.raises(UnavailableError):
        asyncio.run(graph.ingress.ready())
    graph.run()
    asyncio.run(graph.ingress.ready())  # an answer just before is enough


def test_stats_have_the_totals_even_without_the_stages(graph: Graph) -> None:
    graph.run()
    stats = asyncio.run(graph.ingress.stats())
    assert stats["requests"] == {"ok": 1}
    stages = {"preprocess", "classify", "postprocess"}
    assert set(stats["replicas"]) == stages | {f"{stage}-other" for stage in stages}
    graph.postprocess.facts_work = fail_times(dict, BackPressureError(9, 9))
    assert asyncio.run(graph.ingress.stats())["replicas"] is None


def test_a_request_may_name_a_model(graph: Graph) -> None:
    graph.run(RequestOptions(model="other"))
    assert [len(handle.calls) for handle in graph.other] == [1, 1, 1]
    assert not graph.preprocess.calls
    graph.run(RequestOptions(model="tiny"))  # the name of the one that answers by default
    assert len(graph.preprocess.calls) == 1
    with pytest.raises(InvalidOptionError, match="model is 'none', known are tiny, other"):
        graph.run(RequestOptions(model="none"))


def test_the_configuration_is_the_one_in_force(graph: Graph) -> None:
    live = PostprocessConfig(coverage=0.8)
    graph.postprocess.settings_work = lambda: (live, "user_config: coverage is 2")
    found = asyncio.run(graph.ingress.config())
    assert found["postprocess"]["coverage"] == 0.8
    assert found["settings_rejected"] == "user_config: coverage is 2"
    graph.postprocess.settings_work = fail_times(dict, RayActorError())
    found = asyncio.run(graph.ingress.config())
    assert found["postprocess"]["coverage"] == 0.9
    assert found["settings_rejected"] is None


def test_models_and_their_licences_are_listed(graph: Graph) -> None:
    first, second = graph.ingress.models()
    assert (first["name"], first["is_default"]) == ("tiny", True)
    assert (second["name"], second["is_default"]) == ("other", False)
    assert first["window_bytes"] == 128 * 144
    licences = asyncio.run(graph.ingress.config())["licences"]
    assert licences["other"] == {"licence": None, "non_commercial": False}
    assert len(graph.ingress.labels("other")) == 16
    with pytest.raises(InvalidOptionError, match="known are"):
        graph.ingress.labels("none")


def test_windows_in_flight_are_bounded_in_bytes(make: Callable[..., Graph]) -> None:
    """Three windows of 18 KiB a request: the third request at a time is refused."""
    graph = make(max_total_window_bytes=2 * 3 * 128 * 144)

    async def run() -> list[Any]:
        requests = (graph.ingress.classify(WAV, RequestOptions()) for _ in range(4))
        first = await asyncio.gather(*requests, return_exceptions=True)
        return [*first, await graph.ingress.classify(WAV, RequestOptions())]

    found = asyncio.run(run())
    refused = [each for each in found if isinstance(each, OverloadedError)]
    assert [isinstance(each, Prediction) for each in found] == [True, True, False, False, True]
    assert len(refused) == 2
    assert "110,592 bytes" in refused[0].message


def test_one_request_is_never_too_large_for_the_bound(make: Callable[..., Graph]) -> None:
    assert make(max_total_window_bytes=1).run().top_genre


class Repeats:
    """A graph that keeps answers, and what its stages were asked."""

    def __init__(self, make: Callable[..., Graph], folder: str = "") -> None:
        self.graph = make(CacheConfig(memory_bytes=0, folder=folder))
        self.graph.margin = 0.0
        self.graph.postprocess.facts_work = self._facts
        self.n_facts = 0

    def _facts(self) -> dict[str, Any]:
        self.n_facts += 1
        return {"pid": 1, "settings_digest": self.graph.postprocessor().digest}

    def run(self, *requests: tuple[RequestOptions, bytes]) -> list[Prediction]:
        """Answers to requests one after another, in one event loop."""

        async def scenario() -> list[Prediction]:
            return [await self.graph.ingress.classify(data, each) for each, data in requests]

        return asyncio.run(scenario())

    @property
    def n_classified(self) -> int:
        return len(self.graph.classify.calls)


OTHER_WAV = encode(sweep(30.0), 22_050)
PLAIN = RequestOptions()


def test_a_repeat_has_the_same_answer_and_runs_no_stage(make: Callable[..., Graph]) -> None:
    repeats = Repeats(make)
    first, again, other = repeats.run(
        (replace(PLAIN, file="a.wav"), WAV), (replace(PLAIN, file="b.wav"), WAV), (PLAIN, OTHER_WAV)
    )
    assert (first.cached, again.cached, other.cached) == (False, True, False)
    assert (again.file, list(again.timings_ms)) == ("b.wav", ["hash"])
    left_out = {"file": "", "timings_ms": {}, "cached": False}
    assert replace(again, **left_out).to_dict() == replace(first, **left_out).to_dict()
    assert repeats.n_classified == 2
    assert repeats.n_facts == 1, "the settings are not asked for at every request"
    assert repeats.graph.requests() == {"ok": 3}


@pytest.mark.parametrize(
    "options",
    [
        RequestOptions(effort="fast"),
        RequestOptions(top_k=3),
        RequestOptions(timeline=True),
        RequestOptions(model="other"),
    ],
)
def test_other_options_have_another_answer(
    make: Callable[..., Graph], options: RequestOptions
) -> None:
    repeats = Repeats(make)
    repeats.graph.other[2].facts_work = repeats._facts
    found = repeats.run((PLAIN, WAV), (options, WAV), (options, WAV))
    assert [each.cached for each in found] == [False, False, True]


def test_new_settings_of_stage_3_end_the_old_answers(
    make: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingress, "SETTINGS_AGE_S", 0.0)
    repeats = Repeats(make)
    repeats.run((PLAIN, WAV))
    repeats.graph.margin = 0.5
    (changed,) = repeats.run((PLAIN, WAV))
    repeats.graph.margin = 0.0
    (back,) = repeats.run((PLAIN, WAV))
    assert (changed.cached, back.cached) == (False, True)


def test_an_answer_by_settings_that_are_not_seen_yet_is_never_taken_for_the_old_one(
    make: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    repeats = Repeats(make)
    repeats.run((PLAIN, OTHER_WAV))  # the settings are seen
    repeats.graph.margin = 0.5
    repeats.run((PLAIN, WAV))  # answered by new ones
    repeats.graph.margin = 0.0
    (found,) = repeats.run((PLAIN, WAV))
    assert not found.cached


def test_without_the_settings_of_stage_3_nothing_is_taken_for_known(
    make: Callable[..., Graph],
) -> None:
    repeats = Repeats(make)
    repeats.graph.postprocess.facts_work = fail_times(dict, BackPressureError(9, 9))
    found = repeats.run((PLAIN, WAV), (PLAIN, WAV))
    assert [each.cached for each in found] == [False, False]


def test_replicas_share_answers_through_a_folder(
    make: Callable[..., Graph], tmp_path: Path
) -> None:
    first, second = Repeats(make, str(tmp_path)), Repeats(make, str(tmp_path))
    (expected,) = first.run((PLAIN, WAV))
    (found,) = second.run((PLAIN, WAV))
    assert found.cached
    assert found.top_genre == expected.top_genre
    assert second.n_classified == 0
    (path,) = (tmp_path / "answers").iterdir()
    for entry in (path.read_bytes()[:-1], sealed(b'{"top_genre": 3}', path.stem)):
        path.write_bytes(entry)
        (again,) = Repeats(make, str(tmp_path)).run((PLAIN, WAV))
        assert not again.cached


def test_an_error_is_not_kept(make: Callable[..., Graph]) -> None:
    repeats = Repeats(make)
    repeats.graph.classify.work = fail_times(repeats.graph.classify.work, RayError("once"))
    with pytest.raises(ServiceError):
        repeats.run((PLAIN, WAV))
    (found,) = repeats.run((PLAIN, WAV))
    assert not found.cached


def test_a_large_body_goes_through_the_object_store_once(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reference:
        def __init__(self, value: Any) -> None:
            self.value = value

    expected = graph.run(AUTO)
    graph.preprocess.calls.clear()
    stored: list[Reference] = []

    def put(value: Any) -> Reference:
        stored.append(Reference(value))
        return stored[-1]

    monkeypatch.setattr(ingress, "SHARED_BYTES", len(WAV))
    monkeypatch.setattr(calls.ray, "put", put)
    process = graph.preprocess.work
    graph.preprocess.work = lambda reference, *rest: process(reference.value.tobytes(), *rest)
    assert comparable(graph.run(AUTO)) == comparable(expected)
    assert len(stored) == 1, "three rounds, one copy"
    assert [call[0] for call in graph.preprocess.calls] == stored * 3
    assert graph.preprocess.by_reference == [True] * 3


class ByReference:
    """Files in a folder, of which those above 100 kB are read in parts of 64 kB or more."""

    def __init__(
        self, make: Callable[..., Graph], folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(remote_file, "WHOLE_BYTES", 100_000)
        monkeypatch.setattr(remote_file, "HEAD_BYTES", 1 << 16)
        monkeypatch.setattr(ingress, "SHARED_BYTES", 1 << 30)
        self._make, self._folder = make, folder
        self.graph: Graph

    def classify(
        self, data: bytes, options: RequestOptions | None = None, **http: Any
    ) -> Prediction:
        (self._folder / "song").write_bytes(data)
        self.graph = self._make(roots=(str(self._folder),), **http)
        uri = f"file://{self._folder}/song"
        return asyncio.run(self.graph.ingress.classify_uri(uri, options or RequestOptions()))

    @property
    def sent_bytes(self) -> int:
        """Most bytes that stage 1 got at a time."""
        return max(len(call[0]) for call in self.graph.preprocess.calls)

    @property
    def in_parts(self) -> bool:
        return any(call[4] is not None for call in self.graph.preprocess.calls)


@pytest.fixture
def by_reference(
    make: Callable[..., Graph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ByReference:
    return ByReference(make, tmp_path, monkeypatch)


LONG = sweep(180.0)


def mp3(mode: str) -> bytes:
    file = io.BytesIO()
    with sf.SoundFile(
        file, "w", 22_050, 1, format="MP3", bitrate_mode=mode, compression_level=0.5
    ) as sound:
        sound.write(LONG)
    return file.getvalue()


@pytest.mark.parametrize("effort", ["fast", "balanced", "auto"])
@pytest.mark.parametrize("kind", ["wav", "flac", "mp3"])
def test_a_long_file_by_reference_is_answered_by_parts_of_it(
    by_reference: ByReference, kind: str, effort: Any
) -> None:
    data = mp3("CONSTANT") if kind == "mp3" else encode(LONG, 22_050, kind)
    options = RequestOptions(effort=effort)
    found = by_reference.classify(data, options)
    assert by_reference.in_parts
    if effort != "auto":
        assert by_reference.sent_bytes < 0.75 * len(data)
    assert by_reference.graph.requests() == {"ok": 1}
    expected = by_reference.graph.run(options, data)
    assert comparable(replace(found, content_blake3=expected.content_blake3)) == comparable(
        expected
    )


def test_a_long_file_is_read_whole_where_parts_do_not_suffice(by_reference: ByReference) -> None:
    data = mp3("VARIABLE")
    found = by_reference.classify(data)
    assert comparable(found) == comparable(by_reference.graph.pipeline.classify(data))
    assert by_reference.sent_bytes == len(data)
    with pytest.raises(UploadTooLargeError, match="must be read whole, limit is"):
        by_reference.classify(data, max_body_bytes=len(data) - 1)
    assert by_reference.graph.requests() == {"upload_too_large": 1}


def test_a_damaged_long_file_is_its_own_error(by_reference: ByReference) -> None:
    data = encode(LONG, 22_050, "flac")
    data = data[: len(data) // 2]
    with pytest.raises(AudioDecodeError, match="truncated or damaged"):
        by_reference.classify(data)


def test_a_short_file_by_reference_is_read_whole(by_reference: ByReference) -> None:
    data = encode(sweep(8.0, 4_000), 4_000)
    by_reference.classify(data)
    assert not by_reference.in_parts
