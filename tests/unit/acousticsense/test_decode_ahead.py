"""Many files: their order, batches, errors as values, and the threads that decode."""

from __future__ import annotations

from pathlib import Path

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from acoustic.errors import (
    ClassificationError,
)
from acousticsense import Classifier
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
    assert n_read <= 3 * classifier.batch_size


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
        one = classifier.classify_many([WAV] * 3, effort="fast")
        other = classifier.classify_many([WAV] * 3, effort="fast")
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
