"""Adds the missing length to an MP3 of varying bitrate (VBR), by counting its frames.

Such a file normally starts with a Xing frame that states how many frames follow. Without one a
decoder guesses from the first frame's bitrate and stops there: libsndfile reports, and reads, 120
of 180 s. Here the frames are counted and a Xing frame is put in front. Files with such a frame,
or of constant bitrate, are not changed.

Source: ISO/IEC 11172-3, section 2.4.2.3 (header); the Xing frame as LAME writes it.
"""

from __future__ import annotations

from dataclasses import dataclass

# By the header's bitrate index; 1 is MPEG-1, 2 is MPEG-2 and MPEG-2.5. Index 0 is free format.
_BITRATES_KBPS = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
# By the header's two version bits, 3 for MPEG-1, 2 for MPEG-2, 0 for MPEG-2.5, then by rate index.
_SAMPLE_RATES = {
    3: (44_100, 48_000, 32_000),
    2: (22_050, 24_000, 16_000),
    0: (11_025, 12_000, 8_000),
}
_ROOMY_BITRATE_INDEX = 9
"""128 (MPEG-1) or 80 kbit/s: a frame with room for the side information and the tag."""

_LAYER_3 = 1

MAX_FRAMES = 1 << 20
"""Largest number of frames counted: more than seven hours of music."""

MAX_JUNK_BYTES = 1 << 20
"""Most bytes skipped between two frames; a cover picture in an inner tag is usually smaller."""

_FRAMES_FLAG = 1


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of a layer III frame header that determine the frame's length.

    Attributes:
        version: the two version bits: 3 for MPEG-1, 2 for MPEG-2, 0 for MPEG-2.5.
        bitrate_kbps: bitrate, kbit/s.
        sample_rate: sample rate, Hz.
        padding: bytes of padding at the end of the frame, 0 or 1.
        mono: whether the frame has one channel.
    """

    version: int
    bitrate_kbps: int
    sample_rate: int
    padding: int
    mono: bool

    @property
    def size_bytes(self) -> int:
        """Size of the whole frame, bytes."""
        # 1152 or 576 samples per frame; / 8 for bytes, × 1000 for kbit.
        factor = 144_000 if self.version == 3 else 72_000
        return factor * self.bitrate_kbps // self.sample_rate + self.padding

    @property
    def side_info_bytes(self) -> int:
        """Bytes between the header and the frame's main data or information tag."""
        if self.version == 3:
            return 17 if self.mono else 32
        return 9 if self.mono else 17


def with_stated_length(data: bytes) -> bytes:
    """Return the MP3 with a Xing frame in front, where it needs one to state its length.

    Args:
        data: bytes of an MP3 file, which may start with an ID3v2 tag.

    Returns:
        `data` itself unless it is layer III, has a varying bitrate and does not state its length.
    """
    start = after_id3(data)
    first = parse_header(data, start)
    if first is None or has_length(data, start, first):
        return data
    n_frames, varies = _walk(data, start)
    if not varies:
        return data
    return data[:start] + _xing_frame(data[start : start + 4], n_frames) + data[start:]


def after_id3(data: bytes) -> int:
    """Position after an ID3v2 tag, 0 without one; `data` needs only its first 10 bytes."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0  # 7 bits per byte, so that it never looks like a frame's sync; header not included
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def parse_header(data: bytes, at: int) -> Header | None:
    """Parse the layer III frame header at position `at`; None if there is none."""
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[at + 1] >> 3 & 3, data[at + 1] >> 1 & 3
    bitrate, rate = data[at + 2] >> 4, data[at + 2] >> 2 & 3
    # Reserved: version 1, bitrate 15, rate 3. Bitrate 0 is free format, whose size is not stated.
    if version == 1 or layer != _LAYER_3 or bitrate in (0, 15) or rate == 3:
        return None
    return Header(
        version=version,
        bitrate_kbps=_BITRATES_KBPS[1 if version == 3 else 2][bitrate],
        sample_rate=_SAMPLE_RATES[version][rate],
        padding=data[at + 2] >> 1 & 1,
        mono=data[at + 3] >> 6 == 3,
    )


def has_length(data: bytes, at: int, header: Header) -> bool:
    """Whether the frame at position `at` states the number of frames of the file."""
    tag_at = at + 4 + header.side_info_bytes
    if data[tag_at : tag_at + 4] in (b"Xing", b"Info"):
        return bool(int.from_bytes(data[tag_at + 4 : tag_at + 8], "big") & _FRAMES_FLAG)
    return data[at + 36 : at + 40] == b"VBRI"  # 32 bytes after the header in every layout


def _walk(data: bytes, at: int) -> tuple[int, bool]:
    """Number of frames from a position to the end, and whether their bitrates differ.

    Junk between frames, e.g. a tag where files were joined, is skipped: counting resumes at the
    next two headers in a row.
    """
    n_frames, bitrates = 0, set()
    while n_frames < MAX_FRAMES and (header := parse_header(data, at)) is not None:
        n_frames += 1
        bitrates.add(header.bitrate_kbps)
        at += header.size_bytes
        if parse_header(data, at) is None:
            at = _resync(data, at)
    return n_frames, len(bitrates) > 1


def _resync(data: bytes, at: int) -> int:
    """Position of the next frame that is followed by another one, or the end of the data."""
    stop = min(len(data), at + MAX_JUNK_BYTES)
    while (at := data.find(b"\xff", at, stop)) >= 0:
        header = parse_header(data, at)
        if header is not None and parse_header(data, at + header.size_bytes) is not None:
            return at
        at += 1
    return len(data)


def _xing_frame(header: bytes, n_frames: int) -> bytes:
    """Build a silent frame that carries only the number of frames after it."""
    frame = bytearray(header)
    frame[1] |= 1  # no checksum
    # Only the sample rate bits are kept: the padding bit becomes 0.
    frame[2] = _ROOMY_BITRATE_INDEX << 4 | frame[2] & 0x0C
    parsed = parse_header(bytes(frame), 0)
    assert parsed is not None
    frame += bytes(parsed.size_bytes - 4)
    # The tag lies where the main data would begin: name, flags (1: frame count), frame count.
    tag = b"Xing" + (1).to_bytes(4, "big") + n_frames.to_bytes(4, "big")
    start = 4 + parsed.side_info_bytes
    frame[start : start + len(tag)] = tag
    return bytes(frame)
