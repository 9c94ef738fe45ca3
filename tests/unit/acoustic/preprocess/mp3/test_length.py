"""Length of VBR MP3 files whose header does not state it."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile as sf

from acoustic.preprocess.containers.source import WholeFile
from acoustic.preprocess.containers.tags import after_tags
from acoustic.preprocess.decode import open_audio
from acoustic.preprocess.mp3.frames import parse_header, scan
from acoustic.preprocess.mp3.length import read_streams
from acoustic.types import Segment
from tests.support.sounds import Samples, encode, noise, tone

DURATION_S = 30.0


def after_id3(data: bytes) -> int:
    return after_tags(WholeFile(data))


def with_stated_length(data: bytes) -> bytes:
    (stream,) = read_streams(data, after_id3(data)).streams
    return stream.read(data)


def count(data: bytes) -> tuple[int, bool]:
    """Number of frames, and whether their bitrates differ."""
    runs = scan(data, after_id3(data))
    return sum(run.n_frames for run in runs), any(run.is_varying for run in runs)


def uneven(channels: int = 1) -> Samples:
    """Loud noise, then a soft tone: a VBR encoder uses most bits for the first part."""
    loud, soft = noise(10.0, 44_100, 0.3), tone(440, 20.0, 44_100, 0.01)
    mono = np.concatenate([loud, soft])
    return mono if channels == 1 else np.stack([mono] * channels, axis=1)


def vbr(samples: Samples, rate: int = 44_100) -> bytes:
    file = io.BytesIO()
    with sf.SoundFile(
        file, "w", rate, 1 if samples.ndim == 1 else 2, format="MP3", bitrate_mode="VARIABLE"
    ) as sound:
        sound.write(samples)
    return file.getvalue()


def without_xing(data: bytes) -> bytes:
    """The file without its first frame, the Xing header that states the length."""
    start = after_id3(data)
    header = parse_header(data, start)
    assert header is not None
    assert b"Xing" in data[start : start + header.size_bytes]
    return data[:start] + data[start + header.size_bytes :]


@pytest.mark.parametrize("channels", [1, 2])
def test_the_whole_file_is_found(channels: int) -> None:
    stripped = without_xing(vbr(uneven(channels)))
    guess_s = sf.info(io.BytesIO(stripped)).duration
    assert abs(guess_s - DURATION_S) > 3, "the decoder's own estimate is right: nothing to test"
    reader = open_audio(stripped)
    assert reader.info.duration_s == pytest.approx(DURATION_S, abs=0.1)
    late = reader.read(Segment(start_s=28.0, end_s=29.0)).samples
    assert late.size == 44_100
    assert np.sqrt(np.mean(late**2)) == pytest.approx(0.01 / np.sqrt(2), rel=0.1)


def test_the_samples_are_those_of_the_complete_file() -> None:
    complete = vbr(uneven())
    segment = Segment(start_s=12.0, end_s=13.0)
    expected = open_audio(complete).read(segment).samples
    found = open_audio(without_xing(complete)).read(Segment(start_s=12.0, end_s=13.2)).samples
    # Cutting the first frame may move the decoder's output by up to two frames of 1152 samples.
    lag = int(np.correlate(found[:8000], expected[2000:6000], "valid").argmax()) - 2000
    assert abs(lag) <= 2 * 1152
    level = np.sqrt(np.mean(found**2))
    assert level == pytest.approx(float(np.sqrt(np.mean(expected**2))), rel=0.02)


def test_files_that_state_their_length_are_left_alone() -> None:
    for data in (vbr(uneven()), encode(uneven(), 44_100, "mp3")):
        assert with_stated_length(data) is data


def test_constant_bitrate_is_left_alone() -> None:
    header = bytes([0xFF, 0xFB, 0x90, 0xC4])  # 128 kbit/s, 44.1 kHz, mono
    parsed = parse_header(header, 0)
    assert parsed is not None
    assert parsed.size_bytes == 417
    frames = (header + bytes(parsed.size_bytes - 4)) * 100
    assert count(frames) == (100, False)
    assert with_stated_length(frames) is frames


def test_an_id3_tag_is_skipped() -> None:
    tag = b"ID3\x04\x00\x00\x00\x00\x01\x00" + bytes(128)
    reader = open_audio(tag + without_xing(vbr(uneven())))
    assert reader.info.duration_s == pytest.approx(DURATION_S, abs=0.1)


@pytest.mark.parametrize("rate", [22_050, 16_000, 48_000])
def test_frames_are_counted_at_every_rate(rate: int) -> None:
    data = vbr(uneven()[: rate * 5], rate)
    n_frames, _ = count(data)
    samples_per_frame = 1152 if rate > 24_000 else 576
    assert n_frames * samples_per_frame / rate == pytest.approx(5.0, abs=0.25)


@pytest.mark.parametrize("data", [b"", b"ID3", b"\xff\xfb\x90", b"\xff\xfb\x90\x00"])
def test_stumps_are_left_alone(data: bytes) -> None:
    assert with_stated_length(data) is data


def test_junk_between_frames_is_skipped() -> None:
    """Joined files have tags in the middle; junk bytes must not end the track."""
    stripped = without_xing(vbr(uneven()))
    middle = _walk_to(stripped, 600)
    for junk in (bytes(7), b"ID3\x04\x00\x00\x00\x00\x00\x14" + bytes(20)):
        joined = stripped[:middle] + junk + stripped[middle:]
        n_frames, varies = count(joined)
        assert varies
        assert n_frames * 1152 / 44_100 == pytest.approx(DURATION_S, abs=0.15)


def _walk_to(data: bytes, n: int) -> int:
    """Byte offset of frame n, counted from 0."""
    at = after_id3(data)
    for _ in range(n):
        header = parse_header(data, at)
        assert header is not None
        at += header.size_bytes
    return at
