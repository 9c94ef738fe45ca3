"""MPEG audio frames of layers I to III: their headers, and the runs of frames in a file.

Every frame states its own size, so a file is walked from frame to frame without decoding it. The
walk is a loop of Python over all frames of a file, 9,000 of them in four minutes of music: a table
from the first three bytes of a header to the frame's size keeps it short.

Source: ISO/IEC 11172-3, section 2.4.2.3; ISO/IEC 13818-3, section 2.4.2.3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from acoustic.errors import UnsupportedAudioError
from acoustic.preprocess.containers.source import WholeFile
from acoustic.preprocess.containers.tags import after_tags

MPEG_1, MPEG_2, MPEG_25 = 3, 2, 0
"""The two version bits of a header."""

LAYER_1, LAYER_2, LAYER_3 = 3, 2, 1
"""The two layer bits of a header."""

# kbit/s by the header's bitrate index; index 0 is free format, 15 is reserved.
_BITRATES_KBPS = {
    (MPEG_1, LAYER_1): (0, *range(32, 449, 32)),
    (MPEG_1, LAYER_2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (MPEG_1, LAYER_3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (MPEG_2, LAYER_1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (MPEG_2, LAYER_2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES = {
    MPEG_1: (44_100, 48_000, 32_000),
    MPEG_2: (22_050, 24_000, 16_000),
    MPEG_25: (11_025, 12_000, 8_000),
}
_SYNC = re.compile(rb"\xff[\xe2-\xe7\xf2-\xff]")
AGREEING_FRAMES = 4
"""Frames of one format that must follow each other where no frame led to the first of them."""

MAX_CANDIDATES = 1 << 16
"""Most places of a file that are tried as the start of a frame, so that junk costs bounded time."""

MAX_RUNS = 4096
"""Most runs in one file; each is an object in memory."""


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of a frame header that determine the frame's length.

    Attributes:
        version: the two version bits: MPEG_1, MPEG_2 or MPEG_25.
        layer: the two layer bits: LAYER_1, LAYER_2 or LAYER_3.
        bitrate_kbps: bitrate, kbit/s.
        sample_rate: sample rate, Hz.
        padding: slots of padding at the end of the frame, 0 or 1.
        mono: whether the frame has one channel.
    """

    version: int
    layer: int
    bitrate_kbps: int
    sample_rate: int
    padding: int
    mono: bool

    @property
    def n_samples(self) -> int:
        """Samples per channel of the frame."""
        if self.layer == LAYER_1:
            return 384
        return 576 if self.layer == LAYER_3 and self.version != MPEG_1 else 1152

    @property
    def size_bytes(self) -> int:
        """Size of the whole frame, bytes."""
        if self.layer == LAYER_1:  # in slots of four bytes
            return (12_000 * self.bitrate_kbps // self.sample_rate + self.padding) * 4
        # samples / 8 for bytes, × 1000 for kbit
        return self.n_samples * 125 * self.bitrate_kbps // self.sample_rate + self.padding

    @property
    def side_info_bytes(self) -> int:
        """Bytes between the header and the main data or information tag of a layer III frame."""
        if self.version == MPEG_1:
            return 17 if self.mono else 32
        return 9 if self.mono else 17


@dataclass(frozen=True, slots=True)
class Run:
    """Frames that follow each other without a gap, all of one format.

    Attributes:
        start: position of the first frame, bytes.
        stop: position behind the last frame, or the end of the data inside it.
        n_frames: number of frames, with a last one that is cut off.
        header: header of the first frame.
        is_varying: whether the frames have different bitrates.
    """

    start: int
    stop: int
    n_frames: int
    header: Header
    is_varying: bool

    @property
    def duration_s(self) -> float:
        """Length of the frames' audio, seconds."""
        return self.n_frames * self.header.n_samples / self.header.sample_rate


def parse_header(data: bytes, at: int) -> Header | None:
    """Parse the frame header at position `at`; None if there is none, or of free format."""
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[at + 1] >> 3 & 3, data[at + 1] >> 1 & 3
    bitrate, rate = data[at + 2] >> 4, data[at + 2] >> 2 & 3
    # Reserved: version 1, layer 0, bitrate 15, rate 3. Free format does not state its size.
    if version == 1 or layer == 0 or bitrate in (0, 15) or rate == 3:
        return None
    known = (MPEG_1 if version == MPEG_1 else MPEG_2, layer)
    if known == (MPEG_2, LAYER_3):
        known = (MPEG_2, LAYER_2)
    return Header(
        version=version,
        layer=layer,
        bitrate_kbps=_BITRATES_KBPS[known][bitrate],
        sample_rate=_SAMPLE_RATES[version][rate],
        padding=data[at + 2] >> 1 & 1,
        mono=data[at + 3] >> 6 == 3,
    )


def scan(data: bytes, at: int) -> list[Run]:
    """All runs of frames from a position to the end; what lies between them is not audio.

    A run ends at a gap or where the sample rate, the channels or the layer change.

    Args:
        data: content of a file.
        at: where to begin.

    Raises:
        UnsupportedAudioError: more than MAX_RUNS runs.
    """
    runs: list[Run] = []
    n_candidates, size = 0, len(data)
    while True:
        header = parse_header(data, at)
        # frames that directly follow a run need no more proof
        is_proven = not runs or runs[-1].stop == at
        if header is None or not (is_proven or agrees(data, at)):
            at, n_candidates = _next_candidate(data, at, n_candidates)
            if at < 0:
                return runs
            continue
        start = at
        at, n_frames, is_varying = _follow(data, at, header)
        runs.append(Run(start, min(at, size), n_frames, header, is_varying))
        if len(runs) > MAX_RUNS:
            raise UnsupportedAudioError(
                f"the file changes its format or is damaged in more than {MAX_RUNS} places, the "
                "limit; encode it again"
            )
        at = min(at, size)


def _follow(data: bytes, at: int, header: Header) -> tuple[int, int, bool]:
    """Walk frames of one format: position behind them, their number, whether bitrates differ."""
    is_mono, last = header.mono, len(data) - 4
    # a frame's size by the three bytes of its header that determine it
    sizes = sizes_of(header.version, header.layer, header.sample_rate)
    n_frames, seen = 0, set[int]()
    note = seen.add  # a local name: this loop is the cost of the whole walk
    try:
        while at <= last and (data[at + 3] > 0xBF) is is_mono:
            size = sizes[data[at : at + 3]]
            note(size)
            at += size
            n_frames += 1
    except KeyError:
        pass  # another format, or not a frame
    return at, n_frames, max(seen) - min(seen) > 4  # padding is one slot of up to four bytes


def agrees(data: bytes, at: int) -> bool:
    """Whether frames of one format follow each other from `at`: AGREEING_FRAMES, or to the end."""
    first = parse_header(data, at)
    if first is None:
        return False
    n = 0
    while n < AGREEING_FRAMES:
        header = parse_header(data, at)
        if header is None or not _is_alike(header, first):
            return n >= 2 and at >= len(data)
        at, n = at + header.size_bytes, n + 1
    return True


def _next_candidate(data: bytes, at: int, n_candidates: int) -> tuple[int, int]:
    """Next place where frames may begin, behind tags; (-1, n) at the end or after too many."""
    behind = after_tags(WholeFile(data), at)
    if behind > at:
        return behind, n_candidates
    at += 1
    while (match := _SYNC.search(data, at)) is not None and n_candidates < MAX_CANDIDATES:
        n_candidates += 1
        if agrees(data, match.start()):
            return match.start(), n_candidates
        at = match.start() + 1
    return -1, n_candidates


def _is_alike(header: Header, other: Header) -> bool:
    return (header.version, header.layer, header.sample_rate) == (
        other.version, other.layer, other.sample_rate,
    )  # fmt: skip


@cache
def sizes_of(version: int, layer: int, sample_rate: int) -> dict[bytes, int]:
    """First three bytes of every header of one format → size of its frame, bytes.

    Args:
        version: the two version bits.
        layer: the two layer bits.
        sample_rate: sample rate, Hz.
    """
    sizes = {}
    for second in range(0xE2, 0x100):
        for third in range(0x10, 0xF0):
            key = bytes((0xFF, second, third))
            header = parse_header(key + b"\0", 0)
            if header is None or (header.version, header.layer) != (version, layer):
                continue
            if header.sample_rate == sample_rate:
                sizes[key] = header.size_bytes
    return sizes
