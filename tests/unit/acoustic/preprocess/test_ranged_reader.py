"""Ranged reads: the same samples as a whole read, bit for bit, from a part of its bytes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from acoustic.errors import InputError
from acoustic.preprocess.decode import RangedReader, open_audio
from acoustic.preprocess.mp3.slices import Mp3Slices
from acoustic.preprocess.ranged_file import BLOCK_BYTES, RangedFile, RangesUnavailableError
from acoustic.preprocess.segments import plan_segments
from acoustic.types import Segment
from tests.support.sounds import encode, sweep, tone

RATE = 44_100
WINDOW_S = 6.03
KBPS_LEVELS = {320: 0.0, 128: 0.66}


class Store:
    """A byte store that serves ranges and records which were requested."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.ranges: list[tuple[int, int]] = []

    def fetch(self, start: int, stop: int) -> bytes:
        assert 0 <= start < stop <= len(self.data)
        self.ranges.append((start, stop))
        return self.data[start:stop]

    def file(self) -> RangedFile:
        return RangedFile(self.fetch, len(self.data))


def song(duration_s: float, rate: int = RATE, channels: int = 2) -> np.ndarray:
    left = sweep(duration_s, rate) + 0.1 * tone(440, duration_s, rate)
    return np.stack([left, left[::-1]], axis=1)[:, :channels] if channels == 2 else left


def mp3(samples: np.ndarray, rate: int, level: float, mode: str = "CONSTANT") -> bytes:
    file = io.BytesIO()
    channels = samples.shape[1] if samples.ndim == 2 else 1
    with sf.SoundFile(
        file, "w", rate, channels, format="MP3", bitrate_mode=mode, compression_level=level
    ) as sound:
        sound.write(samples)
    return file.getvalue()


def read_both(data: bytes, n_windows: int) -> tuple[Store, RangedFile]:
    """Compare whole and ranged reads of n_windows; returns the store and the ranged file."""
    whole = open_audio(data)
    store = Store(data)
    file = store.file()
    ranged = RangedReader(file)
    assert ranged.info == whole.info
    segments = plan_segments(whole.info.duration_s or 0.0, WINDOW_S, n_windows)
    ranged.expect(segments)
    for segment in segments:
        expected, found = whole.read(segment), ranged.read(segment)
        np.testing.assert_array_equal(found.samples, expected.samples)
        assert found.clipping_ratio == expected.clipping_ratio
    return store, file


@pytest.fixture(scope="module")
def one_minute() -> np.ndarray:
    return song(40.0)


@pytest.fixture(scope="module", params=[320, 128])
def of_kbps(request: pytest.FixtureRequest, one_minute: np.ndarray) -> tuple[int, bytes]:
    return request.param, mp3(one_minute, RATE, KBPS_LEVELS[request.param])


@pytest.mark.parametrize("n_windows", [1, 10])
def test_an_mp3_of_constant_bitrate(of_kbps: tuple[int, bytes], n_windows: int) -> None:
    kbps, data = of_kbps
    _, file = read_both(data, n_windows)
    three_minutes_bytes = 180 * kbps * 1000 / 8
    assert file.fetched_bytes <= len(data)
    if n_windows == 1 and kbps >= 128:
        assert file.fetched_bytes <= 0.08 * three_minutes_bytes


@pytest.mark.parametrize("start_s", [0.0, 0.4, 3.0, 17.1, 34.0, 39.5])
def test_any_place(of_kbps: tuple[int, bytes], start_s: float) -> None:
    """The edges of a fetched range may fall anywhere in a frame, even inside a header."""
    _, data = of_kbps
    ranged = RangedReader(Store(data).file())
    segment = Segment(start_s=start_s, end_s=min(start_s + 2, ranged.info.duration_s or 0.0))
    ranged.expect([segment])
    found = ranged.read(segment)
    np.testing.assert_array_equal(found.samples, open_audio(data).read(segment).samples)


@pytest.mark.parametrize(("rate", "channels"), [(22_050, 1), (48_000, 2), (32_000, 1), (24_000, 2)])
def test_other_rates_and_channels(rate: int, channels: int) -> None:
    read_both(mp3(song(15.0, rate, channels), rate, 0.5), 3)


def test_tags_at_both_ends_change_nothing() -> None:
    """An ID3v2 tag of 300 kB in front, an ID3v1 tag at the end."""
    size = 300_000
    # ID3v2 stores its size in four bytes of 7 bits each.
    tag = b"ID3\x03\x00\x00" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    data = tag + b"\x00" * size + mp3(song(30.0), RATE, 0.66) + b"TAG" + b" " * 125
    store, file = read_both(data, 1)
    assert file.fetched_bytes < 0.35 * len(data)
    assert not [r for r in store.ranges if r[0] > BLOCK_BYTES and r[1] < size - BLOCK_BYTES]


def test_a_varying_bitrate_is_read_whole() -> None:
    data = mp3(song(20.0), RATE, 0.5, "VARIABLE")
    with pytest.raises(RangesUnavailableError):
        RangedReader(Store(data).file())


@pytest.mark.parametrize("n_cut", [5, 100, 400])
def test_bytes_missing_before_a_window_are_noticed(n_cut: int) -> None:
    """After a cut, frames are not where they should be."""
    data = mp3(song(30.0), RATE, 0.66)
    broken = data[:100_000] + data[100_000 + n_cut :]
    whole = open_audio(broken)
    (segment,) = plan_segments(whole.info.duration_s or 0.0, WINDOW_S, 1)
    with pytest.raises(RangesUnavailableError):
        RangedReader(Store(broken).file()).expect([segment])


@pytest.mark.parametrize(
    ("kind", "share"), [("wav", 0.2), ("wav24", 0.2), ("flac", 0.5), ("aiff", 0.2)]
)
def test_other_containers_fetch_what_they_touch(
    one_minute: np.ndarray, kind: str, share: float
) -> None:
    data = encode(one_minute, RATE, kind)
    _, file = read_both(data, 1)
    assert file.fetched_bytes <= share * len(data)


def test_neighbouring_blocks_come_by_one_request() -> None:
    store = Store(bytes(range(256)) * 4096)
    file = store.file()
    assert file.peek(5, 5 + 5 * BLOCK_BYTES) == store.data[5 : 5 + 5 * BLOCK_BYTES]
    assert store.ranges == [(0, 6 * BLOCK_BYTES)]
    file.peek(0, 10)
    assert len(store.ranges) == 1
    file.seek(-10, io.SEEK_END)
    assert file.read() == store.data[-10:]
    assert file.tell() == len(store.data)
    file.seek(-5)
    assert file.tell() == 0


@pytest.mark.parametrize("kind", ["wav", "flac"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_fetch_that_fails_in_a_decoder_is_no_end_of_the_file(kind: str) -> None:
    data = encode(song(60.0), RATE, kind)
    store = Store(data)
    file = store.file()
    ranged = RangedReader(file)

    def fail(start: int, stop: int) -> bytes:
        raise ConnectionError("gone")

    file._fetch = fail
    with pytest.raises(ConnectionError, match="gone"):
        ranged.read(Segment(start_s=30.0, end_s=36.0))


def test_a_file_of_less_than_a_block() -> None:
    data = encode(tone(440, 0.5, 8000), 8000)
    whole, ranged = open_audio(data), RangedReader(Store(data).file())
    segment = Segment(start_s=0.0, end_s=0.5)
    np.testing.assert_array_equal(ranged.read(segment).samples, whole.read(segment).samples)


def test_what_is_no_mp3_inside_has_no_slices() -> None:
    store = Store(b"\xff\xfb\x90\x64" + bytes(100_000))
    assert Mp3Slices.of_ranges(store.file()) is None


def test_real_files_give_the_same_samples_or_are_read_whole(data_folder: Path) -> None:
    n_ranged = 0
    for path in sorted((data_folder / "formats").iterdir()):
        data = path.read_bytes()
        try:
            whole = open_audio(data)
            segments = plan_segments(whole.info.duration_s or 0.0, WINDOW_S, 3)
            expected = [whole.read(segment).samples for segment in segments]
        except InputError:
            continue
        try:
            ranged = RangedReader(Store(data).file())
            ranged.expect(segments)
        except RangesUnavailableError:
            continue
        n_ranged += 1
        assert ranged.info == whole.info, path.name
        for segment, samples in zip(segments, expected, strict=True):
            np.testing.assert_array_equal(ranged.read(segment).samples, samples, path.name)
    assert n_ranged > 20
