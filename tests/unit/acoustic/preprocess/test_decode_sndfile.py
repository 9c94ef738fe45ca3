"""libsndfile by segments: any order and any block size give the samples of the whole file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from acoustic.errors import AudioDecodeError, UnsupportedAudioError
from acoustic.preprocess import decode_sndfile
from acoustic.preprocess.decode_sndfile import (
    SNDFILE_FORMATS,
    ClampedBytesIO,
    SndfileReader,
)
from acoustic.preprocess.guard import DecodeGuard, DecodeLimits
from acoustic.types import Segment
from tests.support.properties import quick
from tests.support.sounds import encode, noise, streamed_flac, sweep, tone

RATE = 8_000
WAV = encode(sweep(4.0, RATE), RATE)
FLAC = encode(sweep(4.0, RATE), RATE, "flac")


def reader(data: bytes) -> SndfileReader:
    return SndfileReader(lambda: ClampedBytesIO(data), DecodeGuard(DecodeLimits()))


def whole(data: bytes) -> np.ndarray:
    return reader(data).read(Segment(start_s=0.0, end_s=1e4)).samples


@quick
@given(
    data=st.sampled_from([WAV, FLAC, streamed_flac(FLAC)]),
    starts=st.lists(st.integers(0, 3_500), min_size=1, max_size=4),
    block_frames=st.integers(1, 3_000),
)
def test_segments_in_any_order_are_parts_of_the_whole(
    data: bytes, starts: list[int], block_frames: int
) -> None:
    expected = whole(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode_sndfile, "BLOCK_BYTES", 4 * max(64, block_frames))
        opened = reader(data)
        for start_ms in starts:
            part = opened.read(Segment(start_s=start_ms / 1e3, end_s=start_ms / 1e3 + 0.5))
            first = round(start_ms / 1e3 * RATE)
            np.testing.assert_array_equal(part.samples, expected[first : first + RATE // 2])


@pytest.mark.parametrize("data", [WAV, FLAC], ids=["wav", "flac"])
def test_audio_past_the_end_is_left_out(data: bytes) -> None:
    opened = reader(data)
    assert opened.read(Segment(start_s=3.75, end_s=9.0)).samples.size == RATE // 4
    beyond = opened.read(Segment(start_s=5.0, end_s=6.0))
    assert (beyond.samples.size, beyond.clipping_ratio) == (0, 0.0)
    assert opened.read(Segment(start_s=0.0, end_s=1.0)).samples.size == RATE


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_the_clipping_ratio_is_over_all_channels(channels: int) -> None:
    """Every tenth frame is at full scale, in the first channel only."""
    samples = np.full((RATE, channels), 0.1, np.float32)
    samples[::10, 0] = 1.0
    found = reader(encode(samples, RATE, "wavfloat")).read(Segment(start_s=0.0, end_s=1.0))
    assert found.clipping_ratio == pytest.approx(0.1 / channels)


def test_the_facts_are_those_of_the_header() -> None:
    info = reader(encode(np.zeros((RATE * 2, 2), np.float32), RATE, "aiff")).info
    assert (info.format, info.channels, info.sample_rate, info.duration_s) == ("AIFF", 2, RATE, 2.0)


def test_a_stream_without_a_length_is_counted() -> None:
    assert reader(streamed_flac(FLAC)).info.duration_s == 4.0


def test_a_format_that_libsndfile_reads_and_this_project_does_not_is_refused() -> None:
    file = io.BytesIO()
    sf.write(file, tone(440, 0.2, RATE), RATE, format="VOC", subtype="PCM_16")
    assert "VOC" not in SNDFILE_FORMATS
    with pytest.raises(UnsupportedAudioError, match="VOC audio is not accepted"):
        reader(file.getvalue())


def test_damage_within_a_file_is_an_error_and_never_silence() -> None:
    data = bytearray(encode(noise(4.0, RATE), RATE, "flac"))
    half = len(data) // 2
    data[half : half + 4000] = bytes(4000)
    opened = reader(bytes(data))
    assert opened.read(Segment(start_s=0.0, end_s=0.5)).samples.size == RATE // 2
    try:
        found = opened.read(Segment(start_s=1.5, end_s=3.0)).samples
    except AudioDecodeError:
        return
    assert found.size < 1.5 * RATE


@pytest.mark.parametrize("data", [b"RIFF", b"fLaC" + bytes(20), b"\x00" * 64])
def test_a_header_that_cannot_be_read_is_an_error(data: bytes) -> None:
    with pytest.raises(AudioDecodeError, match="header cannot be read"):
        reader(data)


@quick
@given(offsets=st.lists(st.tuples(st.integers(-300, 300), st.sampled_from([0, 1, 2])), max_size=8))
def test_a_seek_before_the_start_goes_to_the_start(offsets: list[tuple[int, int]]) -> None:
    file = ClampedBytesIO(bytes(100))
    for offset, whence in offsets:
        origin = (0, file.tell(), 100)[whence]
        assert file.seek(offset, whence) == file.tell() == max(0, origin + offset)


def test_a_stream_is_opened_again_where_a_codec_cannot_seek_back(tmp_path: Path) -> None:
    path, opened = tmp_path / "a.wav", []
    sf.write(path, tone(440, 2.0, RATE), RATE, subtype="GSM610")

    def open_stream() -> io.BytesIO:
        opened.append(1)
        return ClampedBytesIO(path.read_bytes())

    made = SndfileReader(open_stream, DecodeGuard(DecodeLimits()))
    late = made.read(Segment(start_s=1.0, end_s=1.5)).samples
    early = made.read(Segment(start_s=0.2, end_s=0.7)).samples
    again = made.read(Segment(start_s=1.0, end_s=1.5)).samples
    assert len(opened) == 2
    assert np.abs(early).max() > 0.3
    np.testing.assert_array_equal(again, late)
