"""Streams of a file and their stated length; bounded cost on files made to be expensive."""

from __future__ import annotations

import time

import pytest

from acoustic.errors import InputError, UnsupportedAudioError
from acoustic.preprocess.containers import flac, ogg
from acoustic.preprocess.containers.layout import MAX_STREAMS, is_plain, read_layout
from acoustic.preprocess.containers.locate import locate
from acoustic.preprocess.containers.source import WholeFile
from acoustic.preprocess.containers.tags import after_tags
from acoustic.preprocess.decode import open_audio
from acoustic.preprocess.mp3.frames import parse_header
from tests.support.encode_av import encode_av
from tests.support.odd_files import ape, id3, junk, one
from tests.support.sounds import encode, noise, sweep

MAX_CPU_S = 5.0
"""Far above what any of them needs here, and far below what an unbounded search would take."""


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "opus", "aiff", "au", "caf", "w64"])
def test_an_ordinary_file_is_one_stream_and_nothing_is_copied(kind: str) -> None:
    data = one(kind)
    (stream,) = read_layout(data)
    assert stream.read() is data
    assert open_audio(data).info.stated_duration_s is None
    if kind != "mp3":
        assert is_plain(stream.container, WholeFile(data))


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "aiff", "au"])
def test_a_few_bytes_tell_joined_files(kind: str) -> None:
    for second in (one(kind), one(kind, 1), one(kind, 2, 22_050)):
        data = one(kind) + second
        assert not is_plain(read_layout(data)[0].container, WholeFile(data))


@pytest.mark.parametrize("kind", ["flac", "ogg"])
@pytest.mark.parametrize("n", [2, 3, 5, 8, 9, 10, 17, 40])
def test_any_number_of_equal_files_is_seen(kind: str, n: int) -> None:
    rate = 22_050
    part = encode(noise(6.0, rate), rate, kind)
    assert len(read_layout(part * n)) == n
    assert not is_plain("FLAC" if kind == "flac" else "Ogg", WholeFile(part * n))


def test_flac_frames_tell_their_end() -> None:
    data = encode(sweep(7.0, 44_100), 44_100, "flac")
    header = flac.read_header(WholeFile(data), 0)
    assert header is not None
    assert (header.sample_rate, header.channels, header.n_samples) == (44_100, 1, 7 * 44_100)
    end = flac.read_end(WholeFile(data), header)
    assert end == flac.FlacEnd(7 * 44_100, True)
    cut = flac.read_end(WholeFile(data[: len(data) // 2]), header)
    assert cut.n_samples is not None
    assert cut.n_samples < 6 * 44_100
    assert flac.with_stated_samples(data, 7 * 44_100) == data


def test_links_of_a_chain() -> None:
    data = one("ogg") + one("opus")
    first, second = ogg.read_links(data, 0)
    assert (first.codecs, second.codecs) == (("Vorbis",), ("Opus",))
    assert (first.start, first.stop, second.stop) == (0, len(one("ogg")), len(data))


@pytest.mark.parametrize("n_zeros", [0, 1, 5000])
@pytest.mark.parametrize("kind", ["mp3", "flac", "ogg", "wav"])
def test_audio_is_found_behind_tags_zeros_and_junk(kind: str, n_zeros: int) -> None:
    data = id3() + id3(flags=0x10) + bytes(n_zeros) + one(kind)
    expected = len(data) - len(one(kind))
    assert locate(data)[1] == expected
    behind = junk(2000) + one(kind)
    assert locate(behind)[1] == 2000


def test_a_tag_that_states_more_than_the_file_has_is_only_its_header() -> None:
    data = id3(bytes(100), stated=1 << 27)
    assert after_tags(WholeFile(data)) == 10


@pytest.mark.parametrize(
    "behind",
    [
        bytes(400_000), b"id3 " + (300_000).to_bytes(4, "little") + junk(200_000),
        id3(junk(200_000)), b"TAG" + bytes(125), ape(junk(200_000)),
        b"LIST" + (8).to_bytes(4, "little") + b"INFOISFT",
    ],
    ids=["padding", "cut chunk", "id3v2", "id3v1", "ape", "chunk"],
)  # fmt: skip
def test_what_is_no_sound_behind_the_samples_is_not_decoded(behind: bytes) -> None:
    info = open_audio(one("wav") + behind).info
    assert info.duration_s == pytest.approx(9.0, abs=0.01)
    assert info.stated_duration_s is None


def test_rf64_of_a_crashed_recorder_is_read_to_the_end() -> None:
    wav = one("wav")
    ds64 = b"ds64" + (28).to_bytes(4, "little") + bytes(28)
    at = wav.index(b"data")
    data = b"RF64\xff\xff\xff\xffWAVE" + ds64 + wav[12:at] + b"data\xff\xff\xff\xff" + wav[at + 8 :]
    assert open_audio(data).info.duration_s == pytest.approx(9.0, abs=0.01)


def test_flac_whose_smallest_block_is_its_last_one_is_whole() -> None:
    data = bytearray(one("flac"))
    data[8:10] = (256).to_bytes(2, "big")
    assert open_audio(bytes(data)).info.duration_s == pytest.approx(9.0, abs=0.01)


def test_mp2_of_varying_bitrate_is_one_recording_of_its_true_length() -> None:
    data = encode_av(sweep(6.0, 48_000), "mp2")
    low = encode_av(sweep(6.0, 48_000), "mp2", bit_rate=64_000)
    info = open_audio(data + low).info
    assert info.duration_s == pytest.approx(12.0, abs=0.2)


TINY_OGG = encode(noise(0.3, 8000), 8000, "ogg")
TINY_FLAC = encode(noise(0.3, 8000), 8000, "flac")
TINY_WAV = encode(noise(0.2, 8000), 8000)


def mpeg_frames_of_two_rates() -> bytes:
    """MPEG-2 layer III, 8 kbit/s, by turns of 24,000 and 22,050 Hz: the smallest frames."""
    pair = b""
    for header in (b"\xff\xf3\x14\xc0", b"\xff\xf3\x10\xc0"):
        parsed = parse_header(header, 0)
        assert parsed is not None
        pair += header + bytes(parsed.size_bytes - 4)
    return pair * 100_000


BOMBS = {
    "links": lambda: TINY_OGG * 2000,
    "flac files": lambda: TINY_FLAC * 2000,
    "wav files": lambda: TINY_WAV * 3000,
    "markers": lambda: TINY_FLAC + b"fLaC\0\0\0\x22" * 200_000,
    "frame headers": lambda: b"\xff\xfb\x90\x64" * 1_000_000,
    "sync bytes": lambda: b"\xff" * 8_000_000,
    "tags": lambda: id3(b"") * 400_000,
    "pages": lambda: (b"OggS\0\0" + bytes(20) + b"\1\1x") * 200_000,
    "chunks": lambda: b"RIFF\xff\xff\xff\xffWAVE" + b"abcd\0\0\0\0" * 500_000,
    "a large tag": lambda: id3(bytes(200_000_000)) + one("mp3"),
    "mpeg frames of two rates": lambda: mpeg_frames_of_two_rates(),
    "adts frames of two rates": lambda: (
        (b"\xff\xf1\x50\x80\x00\xff\xfc" + b"\xff\xf1\x4c\x80\x00\xff\xfc") * 300_000
    ),
    "formats": lambda: (one("mp3")[:4000] + one("mp3", 1, 48_000)[:4000]) * 300,
}


@pytest.mark.parametrize("name", BOMBS)
def test_files_made_to_be_expensive_are_not(name: str) -> None:
    data = BOMBS[name]()
    begun_s = time.process_time()
    try:
        open_audio(data)
    except InputError:
        assert name != "a large tag"
    assert time.process_time() - begun_s < MAX_CPU_S


def test_the_number_of_recordings_is_limited_by_name() -> None:
    with pytest.raises(UnsupportedAudioError, match=f"more than {MAX_STREAMS} joined recordings"):
        read_layout(TINY_OGG * (MAX_STREAMS + 1))
    assert len(read_layout(TINY_OGG * MAX_STREAMS)) == MAX_STREAMS
