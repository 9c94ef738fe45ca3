"""FLAC: the length that its header states, and the one that its frames have.

Every frame header carries the number of its first sample, protected by a checksum, so the frames at
a few places tell whether the file is complete and one recording: their numbers rise, and the last
one ends where the header says. Joined files and wrong headers show without decoding anything.

Source: RFC 9639, sections 8.2 (STREAMINFO) and 9.1 (frame header).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice, pairwise

from acoustic.preprocess.containers.source import ByteSource, uneven_places

MARKER = b"fLaC"
N_PROBES = 8
MIN_PROBE_BYTES = 1 << 14
MAX_PROBE_BYTES = 1 << 18
MAX_BLOCKS = 4096  # metadata blocks

_SYNC = re.compile(rb"\xff[\xf8\xf9]")
_START = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")
_STREAM_INFO_BYTES = 42  # marker, block header, STREAMINFO
_RATES = {
    1: 88_200, 2: 176_400, 3: 192_000, 4: 8_000, 5: 16_000, 6: 22_050, 7: 24_000, 8: 32_000,
    9: 44_100, 10: 48_000, 11: 96_000,
}  # fmt: skip
_SAMPLE_BITS = {1: 8, 2: 12, 4: 16, 5: 20, 6: 24, 7: 32}


def _crc8_table() -> tuple[int, ...]:
    """Remainders of one byte, polynomial x^8 + x^2 + x + 1."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value << 1 ^ (0x07 if value & 0x80 else 0)) & 0xFF
        table.append(value)
    return tuple(table)


_CRC8 = _crc8_table()


@dataclass(frozen=True, slots=True)
class FlacHeader:
    """Fields of STREAMINFO, and where the frames begin.

    Attributes:
        sample_rate: sample rate, Hz.
        channels: number of channels.
        sample_bits: bits per sample.
        block_samples: samples per channel of the largest block; where a frame says that all
            blocks but the last have as many, the number of its first sample follows from it.
        n_samples: samples per channel that the header states, 0 where it states none.
        max_frame_bytes: size of the largest frame, 0 where it is not stated.
        frames_at: position of the first frame, bytes.
    """

    sample_rate: int
    channels: int
    sample_bits: int
    block_samples: int
    n_samples: int
    max_frame_bytes: int
    frames_at: int


@dataclass(frozen=True, slots=True)
class FlacEnd:
    """What the frames at a few places of a file say.

    Attributes:
        n_samples: number of the sample behind the last frame; None if no frame was found.
        is_rising: whether the sample numbers rise from place to place.
    """

    n_samples: int | None
    is_rising: bool


def read_header(source: ByteSource, at: int) -> FlacHeader | None:
    """Read STREAMINFO and skip the other metadata; None where there is no valid STREAMINFO."""
    head = source.peek(at, at + _STREAM_INFO_BYTES)
    if len(head) < _STREAM_INFO_BYTES or not _START.match(head):
        return None
    fields = int.from_bytes(head[18:26], "big")  # rate 20, channels 3, bits 5, samples 36 bits
    is_last, frames_at = head[4] & 0x80, at + _STREAM_INFO_BYTES
    for _ in range(MAX_BLOCKS):
        if is_last:
            break
        block = source.peek(frames_at, frames_at + 4)
        if len(block) < 4:
            return None
        is_last = block[0] & 0x80
        frames_at += 4 + int.from_bytes(block[1:4], "big")
    return FlacHeader(
        sample_rate=fields >> 44,
        channels=(fields >> 41 & 7) + 1,
        sample_bits=(fields >> 36 & 31) + 1,
        block_samples=int.from_bytes(head[10:12], "big"),
        n_samples=fields & (1 << 36) - 1,
        max_frame_bytes=int.from_bytes(head[15:18], "big"),
        frames_at=frames_at,
    )


def read_end(source: ByteSource, header: FlacHeader) -> FlacEnd:
    """Look at frames in N_PROBES places and at the end of a file.

    Args:
        source: file to look at.
        header: header of that file.
    """
    frame_bytes = header.max_frame_bytes or MAX_PROBE_BYTES // 2
    probe_bytes = min(max(2 * frame_bytes, MIN_PROBE_BYTES), MAX_PROBE_BYTES)
    length = source.size_bytes - header.frames_at
    numbers: dict[int, int] = {}  # position of a frame → number of its first sample
    for place in uneven_places(N_PROBES):
        start = header.frames_at + int(place * length)
        found = _frames(source.peek(start, start + probe_bytes), header, only_first=True)
        numbers |= {start + at: first for at, first, _ in found}
    start = max(header.frames_at, source.size_bytes - probe_bytes)
    found = _frames(source.peek(start, source.size_bytes), header, only_first=False)
    if not found:
        return FlacEnd(None, False)
    at, first, n_samples = found[-1]
    numbers[start + at] = first
    in_order = [number for _, number in sorted(numbers.items())]
    return FlacEnd(first + n_samples, all(a < b for a, b in pairwise(in_order)))


def starts(data: bytes, most: int) -> list[int]:
    """Positions of the FLAC files in some bytes; the whole content is searched.

    Args:
        data: bytes that begin with a FLAC file.
        most: largest number of positions to return.
    """
    return [match.start() for match in islice(_START.finditer(data), most)]


def with_stated_samples(data: bytes, n_samples: int) -> bytes:
    """A FLAC file whose header states a number of samples per channel.

    Args:
        data: content that begins with the marker.
        n_samples: number to state, below 2^36.
    """
    fields = int.from_bytes(data[18:26], "big") >> 36 << 36 | n_samples
    return data[:18] + fields.to_bytes(8, "big") + data[26:]


def _frames(block: bytes, header: FlacHeader, only_first: bool) -> list[tuple[int, int, int]]:
    """Position, first sample and number of samples of the frames that begin in a block."""
    found = []
    for match in _SYNC.finditer(block):
        if (frame := _parse(block, match.start(), header)) is not None:
            found.append((match.start(), *frame))
            if only_first:
                break
    return found


def _parse(block: bytes, at: int, header: FlacHeader) -> tuple[int, int] | None:
    """First sample and number of samples of the frame at a position, None if it is not one."""
    head = block[at : at + 16]
    if len(head) < 16 or head[3] & 0x01:
        return None
    size_code, rate_code = head[2] >> 4, head[2] & 15
    channels, bits = head[3] >> 4, head[3] >> 1 & 7
    if not size_code or rate_code == 15 or channels > 10:
        return None
    if _RATES.get(rate_code, header.sample_rate) != header.sample_rate:
        return None
    if _SAMPLE_BITS.get(bits, header.sample_bits) != header.sample_bits:
        return None
    if (2 if channels > 7 else channels + 1) != header.channels:
        return None
    number, used = _coded_number(head[4:])
    if not used:
        return None
    end = 4 + used
    n_samples, extra = _block_samples(size_code, head[end:])
    end += extra + {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    crc = 0
    for byte in head[:end]:
        crc = _CRC8[crc ^ byte]
    if end >= len(head) or crc != head[end]:
        return None
    if head[1] & 1:  # blocks of varying size: the number is that of the sample
        return number, n_samples
    return number * (header.block_samples or n_samples), n_samples


def _block_samples(code: int, rest: bytes) -> tuple[int, int]:
    """Samples of a block by its code, and the extra header bytes that state them."""
    if code == 6:
        return rest[0] + 1, 1
    if code == 7:
        return int.from_bytes(rest[:2], "big") + 1, 2
    if code == 1:
        return 192, 0
    return (576 << code - 2, 0) if code < 6 else (256 << code - 8, 0)


def _coded_number(data: bytes) -> tuple[int, int]:
    """Number in the extended UTF-8 of frame headers, and its bytes; (0, 0) if it is not one."""
    first = data[0]
    if first < 0x80:
        return first, 1
    n = next((n for n in range(2, 8) if first >> (7 - n) == (1 << (n + 1)) - 2), 0)
    if not n:
        return 0, 0
    number = first & (1 << (7 - n)) - 1
    for byte in data[1:n]:
        if byte >> 6 != 2:
            return 0, 0
        number = number << 6 | byte & 0x3F
    return number, n
