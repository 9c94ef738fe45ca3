"""Many files: their order, batches, errors as values, and the threads that decode."""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from acoustic.errors import (
    ClassificationError,
)
from acousticsense import Classifier
from acousticsense.decode_ahead import map_in_order
from tests.support.answers import RATE, WAV, numbers
from tests.support.sounds import encode, tone


def test_many_files_keep_their_order_and_errors_are_values(
    classifier: Classifier, folder: Path
) -> None:
    found = list(classifier.classify_many(folder))
    assert [type(each).__name__ for each in found] == [
        "Prediction", "AudioDecodeError", "Prediction",
    ]  # fmt: skip
    assert [each.file for each in found] == [
        str(folder / name) for name in ("a.wav", "b/broken.mp3", "b/c.flac")
    ]
    assert numbers(found[0]) == numbers(classifier.classify(folder / "a.wav"))
    assert numbers(found[2]) == numbers(classifier.classify(folder / "b" / "c.flac"))


@pytest.mark.parametrize("effort", ["fast", "balanced", "auto"])
@pytest.mark.parametrize("workers", [1, 3])
def test_batches_of_files_change_no_number(
    classifier: Classifier, effort: str, workers: int
) -> None:
    sounds = [encode(tone(200 + 50 * i, 5.0 + 7 * i), RATE) for i in range(11)]
    many = classifier.classify_many(sounds, effort=effort, workers=workers)  # type: ignore[arg-type]
    for data, found in zip(sounds, many, strict=True):
        assert numbers(found) == numbers(classifier.classify(data, effort=effort))  # type: ignore[arg-type]


def test_an_endless_input_is_read_only_as_far_as_it_is_used(classifier: Classifier) -> None:
    n_read = 0

    def endless():  # type: ignore[no-untyped-def]
        nonlocal n_read
        while True:
            n_read += 1
            yield WAV

    results = classifier.classify_many(endless(), effort="fast", workers=2)
    assert numbers(next(results)) == numbers(classifier.classify(WAV, effort="fast"))
    results.close()  # type: ignore[attr-defined]
    assert n_read <= 4 * classifier.batch_size  # two in the model, two decoded


def test_a_track_that_the_model_fails_on_costs_no_other_result(
    classifier: Classifier, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = classifier.pipeline.classifier
    classify = stage.classify
    long = len(classifier.pipeline.preprocessor.process(WAV, "balanced").log_mel)

    def fail_on_long(tracks):  # type: ignore[no-untyped-def]
        if any(len(track.log_mel) == long for track in tracks):
            raise RuntimeError("out of memory")
        return classify(tracks)

    monkeypatch.setattr(stage, "classify", fail_on_long)
    short = encode(tone(300.0, 3.0), RATE)
    first, failed, last = classifier.classify_many([short, folder / "a.wav", short])
    assert isinstance(failed, ClassificationError)
    assert failed.file == str(folder / "a.wav")
    assert numbers(first) == numbers(last)


def test_blas_gets_its_threads_back(classifier: Classifier) -> None:
    def n_threads() -> list[int]:
        return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

    with threadpool_limits(2, user_api="blas"):  # the machine's own number may be 1
        many = [WAV] * 4 * classifier.batch_size
        one = classifier.classify_many(many, effort="fast")
        other = classifier.classify_many(many, effort="fast")
        next(one), next(other)
        assert set(n_threads()) == {1}
        list(one)
        assert set(n_threads()) == {1}
        list(other)
        assert set(n_threads()) == {2}


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_below_one_are_refused_at_the_call(classifier: Classifier, workers: int) -> None:
    with pytest.raises(ValueError, match=f"workers is {workers}"):
        classifier.classify_many([WAV], workers=workers)


def numbered(n: int, closed: list[bool]) -> Generator[int]:
    try:
        yield from range(n)
    finally:
        closed.append(True)


def test_several_batches_are_in_the_model_at_once_and_keep_their_order() -> None:
    second_is_done = threading.Event()

    def square(i: int) -> int:
        if i == 0:
            assert second_is_done.wait(10)  # the first one ends last
        if i == 1:
            second_is_done.set()
        return i * i

    closed: list[bool] = []
    assert list(map_in_order(square, numbered(7, closed), 2)) == [i * i for i in range(7)]
    assert closed


@pytest.mark.parametrize("n_calls", [1, 3])
def test_batches_are_read_as_the_model_takes_them(n_calls: int) -> None:
    n_read = n_used = most = 0

    def batches() -> Generator[int]:
        nonlocal n_read, most
        for i in range(4 * n_calls):
            n_read += 1
            most = max(most, n_read - n_used)
            yield i

    # calls end when as many run as may: with a limit too low they never do
    all_run = threading.Barrier(n_calls, timeout=10)
    for _ in map_in_order(lambda i: all_run.wait(), batches(), n_calls):
        n_used += 1
    assert n_used == 4 * n_calls
    assert most <= n_calls


def test_an_error_of_the_inputs_comes_after_the_results_before_it() -> None:
    def failing() -> Generator[int]:
        yield from range(3)
        raise TypeError("of an unknown kind")

    found: list[int] = []
    with pytest.raises(TypeError, match="unknown kind"):
        found.extend(map_in_order(abs, failing(), 2))
    assert found == [0, 1, 2]


def test_who_stops_early_leaves_nothing_running() -> None:
    closed: list[bool] = []
    n_before = threading.active_count()
    results = map_in_order(abs, numbered(1000, closed), 2)
    assert next(results) == 0
    results.close()
    assert closed
    assert threading.active_count() == n_before
