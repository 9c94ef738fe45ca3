"""Byte ranges of a constant-bitrate MP3 that cover given seconds; made-up frames fill the rest.

A decoder finds a position in an MP3 by walking from frame to frame: it reads every header on the
way, although it decodes none of those frames. With a constant bitrate each frame has one of two
sizes, so the walk can pass over made-up frames: the same number of frames in the same number of
bytes, each with a true header and an empty body. The decoder then reaches the true bytes of a
window in the same state as in the whole file, and returns the same samples to the bit.

With a varying bitrate the position of a frame cannot be computed: such a file is read whole.

Source: ISO/IEC 11172-3, section 2.4.2.3.
Positions and sizes are bytes; a frame has 1152 samples, or 576 below 32 kHz.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from acoustic.preprocess.containers.tags import after_tags
from acoustic.preprocess.mp3.frames import (
    LAYER_3,
    Header,
    is_information,
    parse_header,
    stated_frames,
)
from acoustic.preprocess.ranged_file import BLOCK_BYTES, RangedFile
from acoustic.types import Segment

RUN_UP_FRAMES = 40
"""True frames fetched before a window: decoding starts 0.2 s early, the bit reservoir reaches
back further, and a decoder synchronises on a few frames before that."""

AFTER_FRAMES = 12  # true frames fetched after a window
MIN_CONSTANT_FRAMES = 12
"""With this many frames of one bitrate at the start, the bitrate is taken as constant; the frames
at each window and at the end must agree."""

PADDING_DRIFT = 1.0
"""Largest difference, bytes, between the length of a gap's frames and their number times the mean
size. Bytes lost inside a gap exceed it; a single lost byte may not."""

MAX_SIZE_DRIFT = 0.01
"""Largest difference between the stated length and the file's, as a ratio; tags are smaller."""

TAIL_BYTES = 128
"""Bytes fetched at the end of the file, where a tag shortens what a decoder takes for music."""


class RangesUnavailableError(Exception):
    """The file must be read whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameTable:
    """Layout of the frames in an MP3 of constant bitrate.

    Attributes:
        start: position of the first frame of that bitrate, bytes.
        header: four bytes of a frame header, without padding and checksum.
        parsed: fields of `header`.
        mean_size: mean size of a frame, bytes, with the padding that the bitrate needs.
        samples_per_frame: samples per channel of one frame, 1152 or 576.
    """

    start: int
    header: bytes
    parsed: Header
    mean_size: float
    samples_per_frame: int

    @property
    def size(self) -> int:
        """Size of a frame without padding, bytes."""
        return self.parsed.size_bytes

    def frame_at(self, time_s: float) -> int:
        """Index of the frame that plays at `time_s`, in seconds."""
        return int(time_s * self.parsed.sample_rate / self.samples_per_frame)

    def position(self, frame: int) -> int:
        """Position of a frame by its index, correct to a byte or two."""
        return self.start + round(max(0, frame) * self.mean_size)


def read_frame_table(file: RangedFile) -> FrameTable:
    """Read the frame table of an MP3 from its first bytes.

    Args:
        file: MP3 file, which may start with an ID3v2 tag.

    Raises:
        RangesUnavailableError: not layer III, a varying bitrate, too few frames, or a stated
            length that the file does not have.
    """
    start = after_tags(file)
    head = file.peek(start, start + 2 * BLOCK_BYTES)
    first = parse_header(head, 0)
    if first is None or first.layer != LAYER_3 or head[4 + first.side_info_bytes :][:4] == b"Xing":
        raise RangesUnavailableError("no MPEG frame at the start, or the header declares VBR")
    frames = list(_walk(head))
    # an information frame, which carries no music, may have another bitrate
    constant = frames[1:] if is_information(head, 0, first) else frames
    if len(constant) < MIN_CONSTANT_FRAMES or len({f.bitrate_kbps for _, f in constant}) > 1:
        raise RangesUnavailableError("the bitrate varies, or there are too few frames")
    at, frame = constant[0]
    header = bytearray(head[at : at + 4])
    header[1] |= 1  # no checksum
    header[2] &= 0xFD  # no padding
    parsed = parse_header(bytes(header), 0)
    assert parsed is not None
    mean_size = frame.n_samples * 125 * frame.bitrate_kbps / frame.sample_rate
    n_stated = stated_frames(head, 0, first)
    n_bytes = file.size_bytes - start
    if n_stated is not None and abs(n_stated * mean_size - n_bytes) > MAX_SIZE_DRIFT * n_bytes:
        raise RangesUnavailableError("the header states another length than the file has")
    return FrameTable(
        start=start + at,
        header=bytes(header),
        parsed=parsed,
        mean_size=mean_size,
        samples_per_frame=frame.n_samples,
    )


def fetch_segments(file: RangedFile, table: FrameTable, segments: Sequence[Segment]) -> None:
    """Fetch the bytes of the segments and of the end, and fill the rest with made-up frames.

    Args:
        file: MP3 file from which `table` was read.
        table: layout of the frames in `file`.
        segments: parts of the track that will be decoded; may be empty.

    Raises:
        RangesUnavailableError: the true frames are not where a constant bitrate puts them.
    """
    file.gaps()  # called to drop what was filled for other segments
    file.require(file.size_bytes - TAIL_BYTES, file.size_bytes)
    for segment in segments:
        first = table.position(table.frame_at(segment.start_s) - RUN_UP_FRAMES)
        file.require(first, table.position(table.frame_at(segment.end_s) + AFTER_FRAMES))
    # Each failed pass fetches at least one more block, so this ends.
    while (edge := _fill(file, table)) is not None:
        file.require(edge, edge + 1)


def _fill(file: RangedFile, table: FrameTable) -> int | None:
    """Fill all gaps; or return a position to fetch first, if a header lies across an edge."""
    known = table.start  # position of a true frame before the next gap, to walk from
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
    """Content of a gap: made-up frames that fill the bytes from `before` to `after`.

    None where a header lies across the end of the gap.
    """
    # n frames, n_padded of them one byte longer: after - before = n * size + n_padded.
    # The padded ones come first; a decoder that only walks over them needs no true order.
    n = round((after - before) / table.mean_size)
    n_padded = after - before - n * table.size
    drift = abs(after - before - n * table.mean_size)
    if not 0 <= n_padded <= n or drift > PADDING_DRIFT:
        raise RangesUnavailableError("a gap does not hold a whole number of frames of the bitrate")
    padded = bytearray(table.header)
    padded[2] |= 2  # the padding bit
    content, at = bytearray(stop - start), before
    for i in range(n):
        header = padded if i < n_padded else table.header
        if at + 4 > stop:  # the true header before `after` lies across the end
            return None
        content[at - start : at - start + 4] = header
        at += table.size + (i < n_padded)
    return bytes(content)


def _first_from(file: RangedFile, table: FrameTable, known: int, place: int) -> int | None:
    """Position of the first frame at or after `place`, by walking true frames from `known`.

    None where a header lies across `place`: the bytes after it are not fetched.
    """
    at = known
    while at < place:
        if at + 4 > place:
            return None
        header = parse_header(file.peek(at, at + 4), 0)
        if header is None or not _is_alike(header, table):
            raise RangesUnavailableError("a frame is missing or has another format")
        at += header.size_bytes
    return at


def _find_frame(file: RangedFile, table: FrameTable, place: int) -> int:
    """Position of the first true frame at or after `place`; three in a row are required."""
    found = file.peek(place, place + BLOCK_BYTES)
    for at in range(min(len(found), 2 * table.size + 2)):
        if _follows(found, at, table):
            return place + at
    raise RangesUnavailableError("no MPEG frame after a gap")


def _follows(data: bytes, at: int, table: FrameTable) -> bool:
    for _ in range(3):
        header = parse_header(data, at)
        if header is None or not _is_alike(header, table):
            return False
        at += header.size_bytes
    return True


def _is_alike(header: Header, table: FrameTable) -> bool:
    known = table.parsed
    return replace(header, padding=0) == replace(known, padding=0)


def _walk(head: bytes) -> Iterator[tuple[int, Header]]:
    """Position and header of each frame from the start, as far as the bytes reach."""
    at = 0
    while (header := parse_header(head, at)) is not None:
        yield at, header
        at += header.size_bytes
