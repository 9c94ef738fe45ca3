"""The true length of an MP3 of varying bitrate that does not state it.

Such a file normally opens with a Xing frame that says how many frames follow. Without one a
decoder guesses from the first frame's bitrate and stops there: libsndfile reports, and reads, 120
of 180 s. Here the frames are counted and a Xing frame is put in front. Files with the frame, or
of constant bitrate, are left as they are.

Source: ISO/IEC 11172-3, section 2.4.2.3 (header); the Xing frame as LAME writes it.
"""

from __future__ import annotations

from dataclasses import dataclass

_BITRATES_KBPS = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES = {
    3: (44_100, 48_000, 32_000),
    2: (22_050, 24_000, 16_000),
    0: (11_025, 12_000, 8_000),
}
_ROOMY_BITRATE_INDEX = 9
"""128 or 80 kbit/s: the frame made here has room for the side information and the tag."""

_LAYER_3 = 1

MAX_FRAMES = 1 << 20
"""Counting ends here: more than seven hours of music."""

MAX_JUNK_BYTES = 1 << 20
"""Between two frames; a cover picture in an inner tag is usually smaller."""

_FRAMES_FLAG = 1


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of one layer III frame header that its length depends on."""

    version: int
    bitrate_kbps: int
    sample_rate: int
    padding: int
    mono: bool

    @property
    def size_bytes(self) -> int:
        """Of the whole frame."""
        factor = 144_000 if self.version == 3 else 72_000
        return factor * self.bitrate_kbps // self.sample_rate + self.padding

    @property
    def side_info_bytes(self) -> int:
        """Between the header and the frame's main data, or an information tag."""
        if self.version == 3:
            return 17 if self.mono else 32
        return 9 if self.mono else 17


def with_stated_length(data: bytes) -> bytes:
    """The same audio, with a Xing frame in front where one is needed.

    Args:
        data: an MP3 file, possibly behind an ID3v2 tag.

    Returns:
        `data` itself unless it is layer III, of varying bitrate and without a length.
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
    """Position behind an ID3v2 tag, 0 without one; its first 10 bytes are enough."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size


def parse_header(data: bytes, at: int) -> Header | None:
    """The layer III header at a position, None if there is none."""
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[at + 1] >> 3 & 3, data[at + 1] >> 1 & 3
    bitrate, rate = data[at + 2] >> 4, data[at + 2] >> 2 & 3
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
    """Whether the frame at a position is one that states the number of frames."""
    tag_at = at + 4 + header.side_info_bytes
    if data[tag_at : tag_at + 4] in (b"Xing", b"Info"):
        return bool(int.from_bytes(data[tag_at + 4 : tag_at + 8], "big") & _FRAMES_FLAG)
    return data[at + 36 : at + 40] == b"VBRI"


def _walk(data: bytes, at: int) -> tuple[int, bool]:
    """Frames from a position to the end, and whether their bitrates differ.

    Junk between frames, such as a tag where files were joined, is skipped: the next two headers
    in a row are where the music goes on.
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
    """Position of the next frame that another one follows, or the end."""
    stop = min(len(data), at + MAX_JUNK_BYTES)
    while (at := data.find(b"\xff", at, stop)) >= 0:
        header = parse_header(data, at)
        if header is not None and parse_header(data, at + header.size_bytes) is not None:
            return at
        at += 1
    return len(data)


def _xing_frame(header: bytes, n_frames: int) -> bytes:
    """A silent frame that carries nothing but the number of frames behind it."""
    frame = bytearray(header)
    frame[1] |= 1  # no checksum
    frame[2] = _ROOMY_BITRATE_INDEX << 4 | frame[2] & 0x0C
    parsed = parse_header(bytes(frame), 0)
    assert parsed is not None
    frame += bytes(parsed.size_bytes - 4)
    tag = b"Xing" + (1).to_bytes(4, "big") + n_frames.to_bytes(4, "big")
    start = 4 + parsed.side_info_bytes
    frame[start : start + len(tag)] = tag
    return bytes(frame)
