"""The library class: kinds of input, order, errors as values, threads, pickling."""

from __future__ import annotations

import asyncio
import io
import pickle
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info

import acousticsense
from acoustic.errors import (
    AcousticError,
    CheckpointError,
    ClassificationError,
    FileUnreadableError,
    InputError,
    InvalidOptionError,
    UnsupportedAudioError,
)
from acoustic.pipeline import Pipeline
from acoustic.prediction import CSV_COLUMNS, Prediction
from acoustic.request import RequestOptions
from acousticsense import Classifier, to_frame
from acousticsense.inputs import AudioInput, expand, read_input, to_wav
from tests.support.sounds import encode, noise, sweep, tone

RATE = 22_050
SOUND = sweep(20.0)
WAV = encode(SOUND, RATE)


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint: Path) -> Classifier:
    return Classifier(tiny_checkpoint)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.wav").write_bytes(WAV)
    (tmp_path / "b" / "broken.mp3").write_bytes(b"ID3 but nothing behind it")
    (tmp_path / "b" / "c.flac").write_bytes(encode(noise(20.0), RATE, "flac"))
    (tmp_path / "b" / "cover.jpg").write_bytes(b"not audio")
    return tmp_path


def numbers(result: Prediction | AcousticError) -> dict[str, object]:
    assert isinstance(result, Prediction), result
    left_out = ("file", "timings_ms", "content_sha256", "format", "cached")
    return {key: value for key, value in result.to_dict().items() if key not in left_out}


def test_every_kind_of_input_gives_the_same_numbers(classifier: Classifier, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(WAV)
    expected = numbers(classifier.classify(WAV))
    samples = np.round(SOUND * 32_768).clip(-32_768, 32_767) / 32_768  # as 16 bits hold them
    inputs = [
        path,
        str(path),
        bytearray(WAV),
        io.BytesIO(WAV),
        (samples, RATE),
        (np.stack([samples, samples]), RATE),
        {"array": samples, "sampling_rate": RATE, "path": "a.wav"},
    ]
    for audio in inputs:
        found = numbers(classifier.classify(audio))
        assert found["top_genre"] == expected["top_genre"]
        assert found["confidence"] == pytest.approx(expected["confidence"], abs=2e-3)
    with path.open("rb") as file:
        assert numbers(classifier.classify(file)) == expected


def test_it_is_the_pipelines_answer(classifier: Classifier, tiny_checkpoint: Path) -> None:
    options = RequestOptions(effort="thorough", top_k=16, coverage=0.5, timeline=True)
    expected = Pipeline.from_folder(tiny_checkpoint).classify(WAV, options)
    found = classifier.classify(WAV, effort="thorough", top_k=16, coverage=0.5, timeline=True)
    kept = ("predictions", "prediction_set", "uncertainty", "timeline", "segments")
    for name in kept:
        assert getattr(found, name) == getattr(expected, name)


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


def test_a_missing_file_is_named(classifier: Classifier, tmp_path: Path) -> None:
    missing = tmp_path / "missing.wav"
    with pytest.raises(FileUnreadableError, match=r"missing\.wav cannot be read: no such file"):
        classifier.classify(missing)
    (found,) = classifier.classify_many([missing])
    assert isinstance(found, FileUnreadableError)
    assert found.file == str(missing)


def test_options_out_of_range_are_refused_before_anything_is_read(classifier: Classifier) -> None:
    with pytest.raises(InvalidOptionError, match="top_k is 17, limits are 1 to 16"):
        classifier.classify_many([], top_k=17)
    with pytest.raises(InvalidOptionError, match="effort is 'loud'"):
        classifier.classify(WAV, effort="loud")  # type: ignore[arg-type]


def test_another_kind_of_value_is_a_mistake_of_the_program(classifier: Classifier) -> None:
    with pytest.raises(TypeError, match="cannot classify a int"):
        classifier.classify(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(), (2, 3, 4), (0,), (40, 500)])
def test_waveforms_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedAudioError, match="has shape"):
        to_wav(np.zeros(shape, np.float32), RATE)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 2000), channels=st.integers(1, 8), rate=st.sampled_from([8_000, 44_100]))
def test_a_waveform_survives_its_wav_form(n: int, channels: int, rate: int) -> None:
    import soundfile as sf

    samples = np.random.default_rng(n).uniform(-1, 1, (n + channels, channels)).astype(np.float32)
    back, found_rate = sf.read(io.BytesIO(to_wav(samples, rate)), dtype="float32", always_2d=True)
    assert found_rate == rate
    np.testing.assert_array_equal(back, samples)


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
    from acoustic.preprocess.cache import CacheConfig

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


def test_folders_are_taken_apart_in_the_order_of_their_names(folder: Path) -> None:
    found = [Path(str(each)).name for each in expand([folder, "x.wav"])]
    assert found == ["a.wav", "broken.mp3", "c.flac", "x.wav"]
    assert read_input(folder / "a.wav").data == WAV


def test_the_package_is_light_and_names_what_it_lacks() -> None:
    assert {"Classifier", "Prediction", "to_frame"} <= set(dir(acousticsense))
    with pytest.raises(AttributeError, match="no attribute 'Clasifier'"):
        _ = acousticsense.Clasifier
    code = (
        "import time; a = time.process_time(); import acousticsense; print(time.process_time() - a)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert float(result.stdout) < 0.5


@pytest.mark.parametrize(
    ("single", "same"),
    [
        (WAV, WAV),
        (io.BytesIO(WAV), WAV),
        ((SOUND, RATE), (SOUND, RATE)),
        ({"array": SOUND, "sampling_rate": RATE}, (SOUND, RATE)),
    ],
)
def test_one_input_is_taken_for_one(
    classifier: Classifier, single: AudioInput, same: AudioInput
) -> None:
    (found,) = classifier.classify_many(single, effort="fast")
    assert numbers(found) == numbers(classifier.classify(same, effort="fast"))


def test_two_paths_in_a_tuple_are_two_inputs(classifier: Classifier, folder: Path) -> None:
    paths = (folder / "a.wav", folder / "b" / "c.flac")
    assert len(list(classifier.classify_many(paths, effort="fast"))) == 2


def test_a_folder_named_like_audio_is_no_file(classifier: Classifier, folder: Path) -> None:
    (folder / "album.flac").mkdir()
    (folder / "album.flac" / "d.wav").write_bytes(WAV)
    found = [each.file for each in classifier.classify_many(folder, effort="fast")]
    names = ("a.wav", "album.flac/d.wav", "b/broken.mp3", "b/c.flac")
    assert found == [str(folder / name) for name in names]


def closed_file() -> io.BytesIO:
    file = io.BytesIO(WAV)
    file.close()
    return file


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ((SOUND, 0), "the sample rate is 0 Hz"),
        ((SOUND, 2**40), "the sample rate is 1099511627776 Hz"),
        ((np.zeros(RATE, np.int16), RATE), r"has type int16: pass floats .* samples / 32768"),
        (([[0.0], [0.0, 1.0]], RATE), "the waveform"),
        ((np.zeros(RATE, np.complex64), RATE), "has type complex64"),
        (io.StringIO("text"), "gives str, not bytes: open it in binary mode"),
        (closed_file(), "cannot be read"),
    ],
)
def test_a_bad_input_does_not_end_the_iteration(
    classifier: Classifier, bad: object, message: str
) -> None:
    first, failed, last = classifier.classify_many([WAV, bad, WAV], effort="fast")  # type: ignore[list-item]
    assert isinstance(failed, InputError)
    assert re.search(message, failed.message)
    assert numbers(first) == numbers(last)


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

    before = n_threads()
    one = classifier.classify_many([WAV] * 3, effort="fast")
    other = classifier.classify_many([WAV] * 3, effort="fast")
    next(one), next(other)
    assert set(n_threads()) == {1}
    list(one)
    assert set(n_threads()) == {1}
    list(other)
    assert n_threads() == before


def test_the_time_of_a_batch_counts_once(tiny_checkpoint: Path) -> None:
    with Classifier(tiny_checkpoint) as classifier:
        begun_s = time.perf_counter()
        list(classifier.classify_many([WAV] * 8, effort="fast"))
        stats = classifier.get_stats()
        assert 0 < stats["avg_inference_time"] * 8 < time.perf_counter() - begun_s


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_below_one_are_refused_at_the_call(classifier: Classifier, workers: int) -> None:
    with pytest.raises(ValueError, match=f"workers is {workers}"):
        classifier.classify_many([WAV], workers=workers)


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
