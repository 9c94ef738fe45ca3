"""Which bytes of an MP3 of constant bitrate hold some seconds, and what may stand for the rest.

A decoder finds a place in an MP3 by walking from frame to frame: it reads every header on the
way, though it decodes none of those frames. In a file of constant bitrate each frame is of one of
two sizes, so the walk can go over made-up frames: the same number of frames in the same number of
bytes, each with a true header and nothing in it. The decoder then arrives at the true bytes of a
window in the state that it would have had, and gives the same samples to the bit.

A varying bitrate leaves no way to know where a frame is: such a file is read whole.

Source: ISO/IEC 11172-3, section 2.4.2.3.
Positions and sizes are bytes; a frame has 1152 samples, or 576 below 32 kHz.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from acoustic.preprocess.mp3_length import Header, after_id3, has_length, parse_header
from acoustic.preprocess.ranged_file import BLOCK_BYTES, RangedFile
from acoustic.types import Segment

RUN_UP_FRAMES = 40
"""True frames before a window: the door decodes 0.2 s early, the bit reservoir reaches back
further, and a decoder synchronises on a few frames before that."""

AFTER_FRAMES = 12
MIN_CONSTANT_FRAMES = 12
"""So many frames of one bitrate at the start are taken for a constant one; the frames at each
window and at the end must agree."""

PADDING_DRIFT = 1.0
"""Bytes by which the padding of many frames may be off its mean. What is lost inside a gap shows
by this; a single byte may not."""

TAIL_BYTES = 128
"""A tag at the end shortens what a decoder takes for music."""


class RangesUnavailableError(Exception):
    """The file must be read whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameTable:
    """Frames of a constant bitrate.

    Attributes:
        start: position of the first one.
        header: its four bytes, without padding and checksum.
        parsed: the same.
        mean_size: with the padding that the bitrate needs.
        samples_per_frame: of each.
    """

    start: int
    header: bytes
    parsed: Header
    mean_size: float
    samples_per_frame: int

    @property
    def size(self) -> int:
        """Of a frame without padding."""
        return self.parsed.size_bytes

    def frame_at(self, time_s: float) -> int:
        """Number of the frame that sounds at a time."""
        return int(time_s * self.parsed.sample_rate / self.samples_per_frame)

    def position(self, frame: int) -> int:
        """Where a frame begins, but for a byte or two."""
        return self.start + round(max(0, frame) * self.mean_size)


def read_frame_table(file: RangedFile) -> FrameTable:
    """The table of an MP3, from its first bytes.

    Raises:
        RangesUnavailableError: no layer III, a varying bitrate, or too short to be worth it.
    """
    start = after_id3(file.peek(0, 10))
    head = file.peek(start, start + 2 * BLOCK_BYTES)
    first = parse_header(head, 0)
    if first is None or head[4 + first.side_info_bytes :][:4] == b"Xing":
        raise RangesUnavailableError("no frame at the start, or a varying bitrate by its own word")
    frames = list(_walk(head))
    # a frame that only informs may have a bitrate of its own
    constant = frames[1:] if has_length(head, 0, first) else frames
    if len(constant) < MIN_CONSTANT_FRAMES or len({f.bitrate_kbps for _, f in constant}) > 1:
        raise RangesUnavailableError("the bitrate varies, or there are only a few frames")
    at, frame = constant[0]
    header = bytearray(head[at : at + 4])
    header[1] |= 1
    header[2] &= 0xFD
    parsed = parse_header(bytes(header), 0)
    assert parsed is not None
    factor = 144_000 if frame.version == 3 else 72_000
    return FrameTable(
        start=start + at,
        header=bytes(header),
        parsed=parsed,
        mean_size=factor * frame.bitrate_kbps / frame.sample_rate,
        samples_per_frame=1152 if frame.version == 3 else 576,
    )


def fetch_segments(file: RangedFile, table: FrameTable, segments: Sequence[Segment]) -> None:
    """Fetch what the segments need and the end, and fill everything else with made-up frames.

    Args:
        file: whose head was read.
        table: of its frames.
        segments: that will be decoded; may be empty.

    Raises:
        RangesUnavailableError: the true frames are not where a constant bitrate would have them.
    """
    file.gaps()  # what was filled for other segments is to be fetched or filled anew
    file.require(file.size_bytes - TAIL_BYTES, file.size_bytes)
    for segment in segments:
        first = table.position(table.frame_at(segment.start_s) - RUN_UP_FRAMES)
        file.require(first, table.position(table.frame_at(segment.end_s) + AFTER_FRAMES))
    while (edge := _fill(file, table)) is not None:
        file.require(edge, edge + 1)


def _fill(file: RangedFile, table: FrameTable) -> int | None:
    """Fill all gaps; or give a position to fetch first, where a header lies across an edge."""
    known = table.start
    for start, stop in file.gaps():
        if stop <= table.start:  # in a tag, which a decoder skips by its stated size
            file.fill(start, bytes(stop - start))
            continue
        before = _first_from(file, table, known, start)
        if before is None:
            return start
        after = _find_frame(file, table, stop)
        content = _made_up(table, before, after, start, stop)
        if content is None:
            return stop - 1
        file.fill(start, content)
        known = after
    return None


def _made_up(table: FrameTable, before: int, after: int, start: int, stop: int) -> bytes | None:
    """A gap with headers in their places, so that frames fill it from `before` to `after`.

    None where a header lies across the end of the gap.
    """
    n = round((after - before) / table.mean_size)
    n_padded = after - before - n * table.size
    drift = abs(after - before - n * table.mean_size)
    if not 0 <= n_padded <= n or drift > PADDING_DRIFT:
        raise RangesUnavailableError("the frames do not fill the space of a constant bitrate")
    padded = bytearray(table.header)
    padded[2] |= 2
    content, at = bytearray(stop - start), before
    for i in range(n):
        header = padded if i < n_padded else table.header
        if at + 4 > stop:  # the true header before `after` lies across the end
            return None
        content[at - start : at - start + 4] = header
        at += table.size + (i < n_padded)
    return bytes(content)


def _first_from(file: RangedFile, table: FrameTable, known: int, place: int) -> int | None:
    """Position of the first frame at or behind a place, by walking true ones.

    None where a header lies across the place, behind which nothing is fetched.
    """
    at = known
    while at < place:
        if at + 4 > place:
            return None
        header = parse_header(file.peek(at, at + 4), 0)
        if header is None or not _is_alike(header, table):
            raise RangesUnavailableError("a frame of another kind")
        at += header.size_bytes
    return at


def _find_frame(file: RangedFile, table: FrameTable, place: int) -> int:
    """Position of the first true frame at or behind a place, three in a row to be sure."""
    found = file.peek(place, place + BLOCK_BYTES)
    for at in range(min(len(found), 2 * table.size + 2)):
        if _follows(found, at, table):
            return place + at
    raise RangesUnavailableError("no frame behind a gap")


def _follows(data: bytes, at: int, table: FrameTable) -> bool:
    for _ in range(3):
        header = parse_header(data, at)
        if header is None or not _is_alike(header, table):
            return False
        at += header.size_bytes
    return True


def _is_alike(header: Header, table: FrameTable) -> bool:
    known = table.parsed
    return (header.version, header.bitrate_kbps, header.sample_rate) == (
        known.version, known.bitrate_kbps, known.sample_rate,
    )  # fmt: skip


def _walk(head: bytes) -> Iterator[tuple[int, Header]]:
    """Position and header of the frames from the start, as far as the bytes reach."""
    at = 0
    while (header := parse_header(head, at)) is not None:
        yield at, header
        at += header.size_bytes
