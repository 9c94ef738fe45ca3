"""Inputs of the classifier: paths, folders, bytes, file objects, arrays, and bad ones."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic.errors import (
    FileUnreadableError,
    InputError,
    UnsupportedAudioError,
)
from acousticsense import Classifier
from acousticsense.inputs import AudioInput, expand, read_input, to_wav
from tests.support.answers import RATE, SOUND, WAV, numbers


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


def test_a_missing_file_is_named(classifier: Classifier, tmp_path: Path) -> None:
    missing = tmp_path / "missing.wav"
    with pytest.raises(FileUnreadableError, match=r"missing\.wav cannot be read: no such file"):
        classifier.classify(missing)
    (found,) = classifier.classify_many([missing])
    assert isinstance(found, FileUnreadableError)
    assert found.file == str(missing)


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


def test_folders_are_taken_apart_in_the_order_of_their_names(folder: Path) -> None:
    found = [Path(str(each)).name for each in expand([folder, "x.wav"])]
    assert found == ["a.wav", "broken.mp3", "c.flac", "x.wav"]
    assert read_input(folder / "a.wav").data == WAV


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
