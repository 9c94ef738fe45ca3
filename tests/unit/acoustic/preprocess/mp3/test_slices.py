"""A cut out of an MP3 decodes to the samples of the whole file, to the bit."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from acoustic.errors import InputError
from acoustic.preprocess.decode import open_audio
from acoustic.preprocess.decode_sndfile import SndfileReader
from acoustic.preprocess.mp3.frames import parse_header
from acoustic.preprocess.mp3.information import is_information
from acoustic.preprocess.mp3.slices import Mp3Slices
from acoustic.types import Segment
from tests.support.sounds import sweep, tone

DURATION_S = 24.0
KINDS = {
    "MPEG-1, 320 kbit/s": (44_100, 2, "CONSTANT", 0.0),
    "MPEG-1, 128 kbit/s": (44_100, 2, "CONSTANT", 0.66),
    "MPEG-1, lowest": (44_100, 1, "CONSTANT", 0.99),
    "MPEG-1, varying": (48_000, 2, "VARIABLE", 0.5),
    "MPEG-1, average": (32_000, 2, "AVERAGE", 0.4),
    "MPEG-2, 22 kHz": (22_050, 2, "CONSTANT", 0.6),
    "MPEG-2, lowest": (16_000, 1, "CONSTANT", 0.99),
    "MPEG-2, varying": (24_000, 1, "VARIABLE", 0.7),
    "MPEG-2.5, lowest": (8_000, 1, "CONSTANT", 0.99),
}


@cache
def encoded(kind: str) -> bytes:
    """A sweep with bursts of noise, which make an encoder use its bit reservoir."""
    rate, channels, mode, level = KINDS[kind]
    rng = np.random.default_rng(1)
    left = sweep(DURATION_S, rate) * 0.5 + 0.1 * tone(440, DURATION_S, rate)
    n_burst = rate // 10
    for start in range(0, left.size - n_burst, rate):
        left[start : start + n_burst] += rng.normal(0, 0.2, n_burst)
    samples = np.stack([left, left[::-1]], axis=1)[:, :channels]
    file = io.BytesIO()
    with sf.SoundFile(
        file, "w", rate, channels, format="MP3", bitrate_mode=mode, compression_level=level
    ) as sound:
        sound.write(samples)
    return file.getvalue()


@cache
def decoded(data: bytes) -> np.ndarray:
    """All samples, decoded without any seek."""
    reader = open_audio(data)
    assert reader.info.duration_s
    return reader.read(Segment(start_s=0.0, end_s=reader.info.duration_s)).samples


def check_any_place(data: bytes, start_s: float, length_s: float) -> None:
    whole = decoded(data)
    reader = open_audio(data)
    rate = reader.info.sample_rate
    found = reader.read(Segment(start_s=start_s, end_s=start_s + length_s)).samples
    start = round(start_s * rate)
    expected = whole[start : start + found.size]
    assert found.size >= min(length_s * rate - 2, whole.size - start)
    np.testing.assert_array_equal(found, expected)


@pytest.fixture
def no_seek(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test in which the decoder walks over the file."""

    def seek(self: SndfileReader, frame: int) -> None:
        raise AssertionError(f"sought to {frame}")

    monkeypatch.setattr(SndfileReader, "_seek", seek)


@pytest.mark.usefixtures("no_seek")
@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_those_of_the_whole_file(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = encoded(kind)
    decoded(data)
    capfd.readouterr()
    for start_s in (0.01, 0.3, 1.0, 3.3, 9.99, 17.123, 20.9):
        check_any_place(data, start_s, 2.0)
    assert capfd.readouterr().err == "", "the decoder has complained"


@pytest.mark.usefixtures("no_seek")
@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), start_s=st.floats(0, 21), length_s=st.floats(0.05, 2))
def test_any_place_of_any_kind(kind: str, start_s: float, length_s: float) -> None:
    check_any_place(encoded(kind), start_s, length_s)


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_of_the_file(kind: str) -> None:
    """Where the file does not state its length it is sought, which changes the last digit."""
    data = encoded(kind)
    reader, whole = open_audio(data), decoded(data)
    start = whole.size - reader.info.sample_rate
    found = reader.read(Segment(start_s=start / reader.info.sample_rate, end_s=60.0)).samples
    np.testing.assert_allclose(found, whole[start:], atol=1e-6)


@pytest.mark.usefixtures("no_seek")
def test_without_an_information_frame_and_behind_a_tag() -> None:
    data = encoded("MPEG-1, 128 kbit/s")
    first = parse_header(data, 0)
    assert first is not None
    if is_information(data, 0, first):
        data = data[first.size_bytes :]
    check_any_place(data, 10.0, 3.0)
    check_any_place(b"ID3\x03\x00\x00\x00\x00\x07\x68" + bytes(1000) + data, 10.0, 3.0)


def test_one_window_after_another_and_back_again() -> None:
    data = encoded("MPEG-1, 128 kbit/s")
    whole, reader = decoded(data), open_audio(data)
    for start, length in ((5, 2), (7, 2), (1, 3), (0, 2), (2, 2), (20, 2)):
        found = reader.read(Segment(start_s=float(start), end_s=float(start + length))).samples
        np.testing.assert_array_equal(found, whole[start * 44_100 : (start + length) * 44_100])


@pytest.mark.parametrize("n_cut", [3, 50, 417])
def test_behind_missing_bytes_the_samples_are_those_of_a_decoder(
    n_cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded("MPEG-1, 128 kbit/s")
    damaged = data[:100_000] + data[100_000 + n_cut :]
    segment = Segment(start_s=15.0, end_s=17.0)
    found = open_audio(damaged).read(segment).samples
    monkeypatch.setattr(Mp3Slices, "of_bytes", lambda data: None)
    np.testing.assert_array_equal(found, open_audio(damaged).read(segment).samples)


@pytest.mark.parametrize("data", [b"", b"RIFF", bytes(5000), b"\xff\xfb", b"ID3" * 9])
def test_what_is_no_mp3_has_no_slices(data: bytes) -> None:
    assert Mp3Slices.of_bytes(data) is None


def test_a_cut_is_short_however_long_the_file_is() -> None:
    data = encoded("MPEG-1, 128 kbit/s")
    slices = Mp3Slices.of_bytes(data)
    assert slices is not None
    cut = slices.cut(10 * 44_100, 12 * 44_100)
    assert cut is not None
    assert len(cut.data) < 2.7 * 16_000  # 128 kbit/s
    assert 0 < 10 * 44_100 - cut.first_sample < 0.7 * 44_100


def test_real_files(data_folder: Path) -> None:
    n_compared = 0
    for path in sorted((data_folder / "formats").glob("*.mp3")):
        data = path.read_bytes()
        try:
            whole = decoded(data)
            reader = open_audio(data)
        except InputError:
            continue
        duration_s = reader.info.duration_s or 0.0
        if duration_s < 1 or Mp3Slices.of_bytes(data) is None:
            continue
        n_compared += 1
        check_any_place(data, 0.6 * duration_s, 0.3 * duration_s)
        assert whole.size
    assert n_compared > 5
