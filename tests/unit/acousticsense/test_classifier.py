"""The library class: threads, pickling, statistics, embeddings, its results."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import acousticsense
from acoustic.errors import (
    CheckpointError,
    InputError,
    InvalidOptionError,
)
from acoustic.pipeline import Pipeline
from acoustic.prediction import CSV_COLUMNS, Prediction
from acoustic.request import RequestOptions
from acousticsense import Classifier, to_frame
from tests.support.answers import RATE, WAV, numbers
from tests.support.sounds import encode, noise, sweep


def test_it_is_the_pipelines_answer(classifier: Classifier, tiny_checkpoint: Path) -> None:
    options = RequestOptions(effort="thorough", top_k=16, coverage=0.5, timeline=True)
    expected = Pipeline.from_folder(tiny_checkpoint).classify(WAV, options)
    found = classifier.classify(WAV, effort="thorough", top_k=16, coverage=0.5, timeline=True)
    kept = ("predictions", "prediction_set", "uncertainty", "timeline", "segments")
    for name in kept:
        assert getattr(found, name) == getattr(expected, name)


def test_options_out_of_range_are_refused_before_anything_is_read(classifier: Classifier) -> None:
    with pytest.raises(InvalidOptionError, match="top_k is 17, limits are 1 to 16"):
        classifier.classify_many([], top_k=17)
    with pytest.raises(InvalidOptionError, match="effort is 'loud'"):
        classifier.classify(WAV, effort="loud")  # type: ignore[arg-type]


def test_threads_get_the_same_answers(classifier: Classifier) -> None:
    expected = numbers(classifier.classify(WAV))
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: classifier.classify(WAV), range(16)):
            assert numbers(found) == expected


def test_a_copy_from_a_pickle_answers_alike(classifier: Classifier) -> None:
    copy = pickle.loads(pickle.dumps(classifier))
    assert copy.labels == classifier.labels
    assert numbers(copy.classify(WAV)) == numbers(classifier.classify(WAV))


def test_async_calls(classifier: Classifier) -> None:
    async def both() -> list[Prediction]:
        return await asyncio.gather(
            classifier.aclassify(WAV), classifier.aclassify(WAV, effort="fast")
        )

    one, other = asyncio.run(both())
    assert (len(one.segments), len(other.segments)) == (3, 1)


def test_the_guides_calls(classifier: Classifier, folder: Path) -> None:
    paths = [folder / "a.wav", folder / "b" / "broken.mp3"]
    good, bad = asyncio.run(classifier.process_audio_batch(paths))
    prediction = classifier.classify(paths[0])
    assert good == {
        "file": str(paths[0]),
        "predictions": {s.genre: s.probability for s in prediction.predictions},
        "top_genre": prediction.genre,
        "top_confidence": prediction.confidence,
        "uncertainty": prediction.uncertainty.entropy,
        "needs_review": prediction.needs_review,
    }
    assert bad["error"]["code"] == "audio_decode_failed"


def test_stats_under_the_guides_keys(tiny_checkpoint: Path) -> None:
    with Classifier(tiny_checkpoint, precision="fp32", cache=acousticsense_cache()) as classifier:
        assert classifier.get_stats()["total_requests"] == 0
        for _ in range(3):
            classifier.classify(WAV)
        found = classifier.get_stats()
    assert (found["total_requests"], found["cache_hits"]) == (3, 2)
    assert found["cache_hit_rate"] == pytest.approx(2 / 3)
    assert found["avg_inference_time"] > 0
    assert found["avg_preprocess_time"] > 0
    assert found["using_fp16"] is False


def acousticsense_cache():  # type: ignore[no-untyped-def]
    from acoustic.content_cache import CacheConfig

    return CacheConfig()


def test_a_cache_folder_is_used(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with Classifier(tiny_checkpoint, cache=tmp_path / "cache") as classifier:
        classifier.classify(WAV)
    assert list((tmp_path / "cache").glob("*.npy"))


def test_embeddings_are_close_for_alike_and_far_for_other_sounds(classifier: Classifier) -> None:
    one = classifier.embed(WAV)
    assert one.shape == (32,)
    assert one.dtype == np.float32
    same = classifier.embed(encode(sweep(20.0), RATE, "flac"))
    other = classifier.embed(encode(noise(20.0), RATE))
    assert np.linalg.norm(one - same) < 0.1 * np.linalg.norm(one - other)


def test_embeddings_of_silence_are_refused(classifier: Classifier) -> None:
    with pytest.raises(InputError):
        classifier.embed((np.zeros(5 * RATE), RATE))


def test_a_closed_classifier_answers_no_more(tiny_checkpoint: Path) -> None:
    with Classifier(tiny_checkpoint) as classifier:
        classifier.classify(WAV)
    with pytest.raises(RuntimeError, match="is closed"):
        classifier.classify(WAV)


def test_the_prediction_reads_well(classifier: Classifier) -> None:
    prediction = classifier.classify(WAV)
    text = repr(prediction)
    assert "\n" not in text
    assert len(text) < 300
    assert prediction.genre in text
    assert prediction.genre == prediction.top_genre == prediction.genres(1)[0]
    assert len(prediction.genres()) == 5
    assert prediction.to_json().startswith('{"file":')
    assert prediction.genre in prediction._repr_html_()
    assert isinstance(prediction.is_music, bool)


def test_names_in_html_are_escaped(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "<b>.wav"
    path.write_bytes(WAV)
    page = classifier.classify(path)._repr_html_()
    assert "<b>.wav" not in page
    assert "&lt;b&gt;.wav" in page


def test_results_become_a_table(classifier: Classifier, folder: Path) -> None:
    table = to_frame(classifier.classify_many(folder))
    assert list(table.columns) == ["file", *CSV_COLUMNS, "error_code", "error_message"]
    assert list(table["error_code"]) == ["", "audio_decode_failed", ""]
    assert table["confidence"][0] > 0


def test_the_package_is_light_and_names_what_it_lacks() -> None:
    assert {"Classifier", "Prediction", "to_frame"} <= set(dir(acousticsense))
    with pytest.raises(AttributeError, match="no attribute 'Clasifier'"):
        _ = acousticsense.Clasifier
    code = (
        "import time; a = time.process_time(); import acousticsense; print(time.process_time() - a)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert float(result.stdout) < 0.5


def test_the_time_of_a_batch_counts_once(tiny_checkpoint: Path) -> None:
    with Classifier(tiny_checkpoint) as classifier:
        begun_s = time.perf_counter()
        list(classifier.classify_many([WAV] * 8, effort="fast"))
        stats = classifier.get_stats()
        assert 0 < stats["avg_inference_time"] * 8 < time.perf_counter() - begun_s


def test_a_folder_is_a_failed_row_of_the_guides_call(classifier: Classifier, folder: Path) -> None:
    rows = asyncio.run(classifier.process_audio_batch([folder, folder / "a.wav"]))
    assert [row["file"] for row in rows] == [str(folder), str(folder / "a.wav")]
    assert "error" in rows[0]


def test_a_pickled_copy_opens_from_another_working_directory(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_checkpoint.parent)
    state = pickle.dumps(Classifier(tiny_checkpoint.name))
    monkeypatch.chdir(tmp_path)
    copy = pickle.loads(state)
    assert numbers(copy.classify(WAV, effort="fast"))


def test_the_word_default_is_the_built_in_model_and_a_path_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError):
        Classifier(Path("default"))
    assert Classifier("default").labels
