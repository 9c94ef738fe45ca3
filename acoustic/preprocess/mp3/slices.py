"""Cuts the frames that play given seconds out of an MP3, as a short MP3 with the same samples.

A decoder finds a position in an MP3 by walking over every frame before it. With a constant bitrate
a frame's place can be computed and then checked; with a varying one a walk over the sizes finds it.
So a decoder needs the frames of a window only, whether they come from memory or from a store, and
the time no longer grows with the length of the file.

The samples are those of the whole file, to the bit:
- The cut begins so far ahead that the bit reservoir is full and the filters have settled.
- Frames whose main data begins before the cut are made silent; they only fill the reservoir.
- It begins at a multiple of 4 frames: a decoder turns the buffer of its filter by a part of a
  circle per frame, and adds in another order then.
- The file's own information frame goes in front, so that the encoder's delay is skipped alike.

Source: ISO/IEC 11172-3, sections 2.4.1.7 (side information) and 2.4.2.7 (main_data_begin).
Positions and sizes are bytes; a frame has 1152 samples, or 576 below 32 kHz.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from acoustic.preprocess.containers.source import ByteSource, WholeFile
from acoustic.preprocess.containers.tags import after_tags
from acoustic.preprocess.mp3.frames import LAYER_3, MPEG_1, Header, parse_header, sizes_of
from acoustic.preprocess.mp3.information import (
    has_xing_tag,
    is_information,
    stated_frames,
    with_size,
)

HEAD_BYTES = 32 << 10  # read to find the first frames

SETTLED_FRAMES = 4
"""Frames with their whole main data that are decoded before the first sample that counts."""

AFTER_FRAMES = 4  # behind the last sample, which comes late by the delays of encoder and decoder

PHASE_FRAMES = 4
"""Frames after which a decoder adds in the same order: 18 steps a granule, in a circle of 16."""

MIN_CONSTANT_FRAMES = 12
"""With this many frames of one bitrate at the start, the bitrate is taken as constant; the frames
at each cut must agree."""

PLACE_ERROR_BYTES = 2
"""Largest distance of a frame from the computed place: encoders pad by one byte, in any order."""

MAX_SIZE_DRIFT = 0.01
"""Largest difference between the stated length and the file's, as a ratio; tags are smaller."""


class Places(Protocol):
    """Where the frames of a file are."""

    def of(self, frame: int) -> int | None:
        """Position of a frame by its index; None where it is not known for sure."""

    def behind(self, frame: int) -> int:
        """A position behind that frame, or the end of the file."""

    def run_up(self, frame: int) -> int:
        """Number of frames before `frame` whose main data fills the bit reservoir."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A part of an MP3 that a decoder reads like a file.

    Attributes:
        data: content of the part.
        first_sample: index in the track of the first sample that is decoded from it.
    """

    data: bytes
    first_sample: int


class Mp3Slices:
    """Makes cuts of one MP3.

    Args:
        source: bytes of the file.
        start: position of its first frame with sound.
        header: header of that frame.
        information: the information frame before it, or nothing.
        places: where its frames are.

    Attributes:
        header: header of the first frame with sound.
    """

    def __init__(
        self, source: ByteSource, start: int, header: Header, information: bytes, places: Places
    ) -> None:
        self.header = header
        self._source, self._start = source, start
        self._information, self._places = information, places

    @classmethod
    def of_bytes(cls, data: bytes) -> Mp3Slices | None:
        """Slices of an MP3 in memory; None if it is not one, or not of layer III."""
        source = WholeFile(data)
        begun = _begin(source)
        if begun is None:
            return None
        constant = _constant_places(source, begun)
        places: Places = _WalkedPlaces(data, begun.start) if constant is None else constant
        return cls(source, begun.start, begun.header, begun.information, places)

    @classmethod
    def of_ranges(cls, source: ByteSource) -> Mp3Slices | None:
        """Slices of a stored MP3; None where its frames cannot be found without reading it all.

        That is so with a varying bitrate, and where the stated length is not that of the file.
        """
        begun = _begin(source)
        places = None if begun is None else _constant_places(source, begun)
        if begun is None or places is None:
            return None
        return cls(source, begun.start, begun.header, begun.information, places)

    def cut(self, start: int, stop: int) -> Cut | None:
        """The part that plays the samples from `start` to `stop`.

        Args:
            start: index of the first sample of the track that is wanted.
            stop: index behind the last one.

        Returns:
            None where the frames are not where they should be: the file must be decoded from its
            beginning.
        """
        per_frame = self.header.n_samples
        wanted = start // per_frame
        n_reservoir = self._places.run_up(max(0, wanted - SETTLED_FRAMES))
        first = max(0, wanted - SETTLED_FRAMES - n_reservoir) // PHASE_FRAMES * PHASE_FRAMES
        begun = self._start if first == 0 else self._places.of(first)
        if begun is None:
            return None
        ended = self._places.behind(stop // per_frame + AFTER_FRAMES)
        frames = self._source.peek(begun, ended)
        if first:
            frames = _silenced(frames, n_reservoir)
        if self._information:
            n_bytes = len(self._information) + len(frames)
            front = with_size(self._information, _header_of(self._information), n_bytes)
            frames = front + frames
        elif ended >= self._source.size_bytes:
            return None  # a decoder guesses the length, and so where it ends
        return Cut(frames, first * per_frame)


@dataclass(frozen=True, slots=True)
class _Begin:
    start: int
    header: Header
    information: bytes
    head: bytes  # from `start` on
    stated: int | None
    is_varying: bool


def _begin(source: ByteSource) -> _Begin | None:
    at = after_tags(source)
    head = source.peek(at, at + HEAD_BYTES)
    first = parse_header(head, 0)
    if first is None or first.layer != LAYER_3:
        return None
    if not is_information(head, 0, first):
        return _Begin(at, first, b"", head, None, False)
    size = first.size_bytes
    header = parse_header(head, size)
    information = head[:size]
    if header is None or not has_xing_tag(information, first):
        return None
    is_varying = head[4 + first.side_info_bytes :][:4] == b"Xing"
    stated = stated_frames(head, 0, first)
    return _Begin(at + size, header, information, head[size:], stated, is_varying)


class _ConstantPlaces:
    """Computed places of frames of one bitrate, checked against the file."""

    def __init__(self, source: ByteSource, start: int, header: Header) -> None:
        self._source, self._start = source, start
        self._header = replace(header, padding=0)
        # the mean over frames with and without padding
        self._mean_size = header.n_samples * 125 * header.bitrate_kbps / header.sample_rate
        self._n_reservoir = math.ceil(_reservoir_bytes(header) / _main_bytes(header))

    def of(self, frame: int) -> int | None:
        place = self._place(frame) - PLACE_ERROR_BYTES
        n_bytes = 2 * PLACE_ERROR_BYTES + 3 * (self._header.size_bytes + 1) + 4
        near = self._source.peek(place, place + n_bytes)
        found = [at for at in range(2 * PLACE_ERROR_BYTES + 1) if self._follows(near, at)]
        return place + found[0] if len(found) == 1 else None

    def behind(self, frame: int) -> int:
        return min(self._place(frame + 1) + PLACE_ERROR_BYTES, self._source.size_bytes)

    def run_up(self, frame: int) -> int:
        return min(frame, self._n_reservoir)

    def _place(self, frame: int) -> int:
        return self._start + round(frame * self._mean_size)

    def _follows(self, data: bytes, at: int) -> bool:
        for _ in range(3):
            header = parse_header(data, at)
            if header is None or replace(header, padding=0) != self._header:
                return False
            at += header.size_bytes
        return True


class _WalkedPlaces:
    """Places of frames of any bitrate, found by walking over their sizes once, when needed."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data, self._start = data, start
        self._found: list[int] | None = None

    @property
    def _places(self) -> list[int]:
        if self._found is None:
            self._found = list(_walk(self._data, self._start))
        return self._found

    def of(self, frame: int) -> int | None:
        return self._places[frame] if frame < len(self._places) else None

    def behind(self, frame: int) -> int:
        return self._places[frame + 1] if frame + 1 < len(self._places) else len(self._data)

    def run_up(self, frame: int) -> int:
        n_bytes, at = 0, min(frame, len(self._places) - 1)
        first = at
        while at > 0:
            at -= 1
            header = parse_header(self._data, self._places[at])
            assert header is not None
            n_bytes += _main_bytes(header)
            if n_bytes >= _reservoir_bytes(header):
                break
        return first - at


def _constant_places(source: ByteSource, begun: _Begin) -> _ConstantPlaces | None:
    if begun.is_varying:
        return None
    header = replace(begun.header, padding=0)
    at = 0
    for _ in range(MIN_CONSTANT_FRAMES):
        found = parse_header(begun.head, at)
        if found is None or replace(found, padding=0) != header:
            return None
        at += found.size_bytes
    mean_size = header.n_samples * 125 * header.bitrate_kbps / header.sample_rate
    n_bytes = source.size_bytes - begun.start
    if begun.stated and abs(begun.stated * mean_size - n_bytes) > MAX_SIZE_DRIFT * n_bytes:
        return None
    return _ConstantPlaces(source, begun.start, header)


def _walk(data: bytes, at: int) -> Iterator[int]:
    """Positions of the frames of one format that follow each other from `at`."""
    first = _header_of(data[at : at + 4])
    # a frame's size by the three bytes of its header that determine it
    sizes = sizes_of(first.version, first.layer, first.sample_rate)
    last = len(data) - 4
    while at <= last and (data[at + 3] > 0xBF) is first.mono:
        size = sizes.get(data[at : at + 3])
        if size is None:  # another format, or not a frame
            return
        yield at
        at += size


def _silenced(frames: bytes, n: int) -> bytes:
    """The first n frames with empty side information, except for main_data_begin at its start.

    They decode to silence. A frame whose main data is not there raises an error in the decoder,
    which then also leaves out a step of its filter.
    """
    silenced = bytearray(frames)
    at = 0
    for _ in range(n):
        header = parse_header(frames, at)
        if header is None:
            break
        begun = at + 4 + _checksum_bytes(frames[at + 1])
        ended = min(begun + header.side_info_bytes, len(frames))
        begun += 1
        if header.version == MPEG_1 and begun < ended:  # 9 bits, not 8
            silenced[begun] &= 0x80
            begun += 1
        silenced[begun:ended] = bytes(ended - begun)
        at += header.size_bytes
    return bytes(silenced)


def _header_of(frame: bytes) -> Header:
    header = parse_header(frame, 0)
    assert header is not None
    return header


def _checksum_bytes(second: int) -> int:
    """Bytes of the checksum behind a header, by its second byte."""
    return 0 if second & 1 else 2


def _reservoir_bytes(header: Header) -> int:
    """Largest distance of the main data from its frame: main_data_begin has 9 or 8 bits."""
    return 511 if header.version == MPEG_1 else 255


def _main_bytes(header: Header) -> int:
    """Bytes of a frame that hold main data, at least 1; a checksum is assumed."""
    return max(1, header.size_bytes - 6 - header.side_info_bytes)
