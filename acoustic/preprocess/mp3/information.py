"""The frame in front of an MP3 that carries facts of the file instead of sound.

"Xing" stands for a varying bitrate, "Info" for a constant one; Fraunhofer's encoder writes "VBRI".

Source: the tags as LAME and Fraunhofer's encoder write them.
"""

from __future__ import annotations

from acoustic.preprocess.mp3.frames import LAYER_3, Header, parse_header

_FRAMES_FLAG, _BYTES_FLAG = 1, 2
_ROOMY_BITRATE_INDEX = 9
"""128 (MPEG-1) or 80 kbit/s: a frame with room for the side information and the tag."""


def stated_frames(data: bytes, at: int, header: Header) -> int | None:
    """Number of frames that the frame at position `at` states for the file; None if it does not.

    The frame itself, which carries no sound, is not counted.
    """
    if header.layer != LAYER_3:
        return None
    tag_at = at + 4 + header.side_info_bytes
    if data[tag_at : tag_at + 4] in (b"Xing", b"Info"):
        has_count = int.from_bytes(data[tag_at + 4 : tag_at + 8], "big") & _FRAMES_FLAG
        return int.from_bytes(data[tag_at + 8 : tag_at + 12], "big") if has_count else None
    if data[at + 36 : at + 40] == b"VBRI":  # 32 bytes after the header in every layout
        return int.from_bytes(data[at + 50 : at + 54], "big")
    return None


def is_information(data: bytes, at: int, header: Header) -> bool:
    """Whether the frame at position `at` carries facts of the file instead of sound."""
    tag_at = at + 4 + header.side_info_bytes
    is_tag = data[tag_at : tag_at + 4] in (b"Xing", b"Info") or data[at + 36 : at + 40] == b"VBRI"
    return header.layer == LAYER_3 and is_tag


def has_xing_tag(frame: bytes, header: Header) -> bool:
    """Whether a frame has the tag "Xing" or "Info"."""
    tag_at = 4 + header.side_info_bytes
    return frame[tag_at : tag_at + 4] in (b"Xing", b"Info")


def with_size(frame: bytes, header: Header, n_bytes: int) -> bytes:
    """A Xing or Info frame with another size of the file in it, if it states one.

    Args:
        frame: bytes of the frame.
        header: its header.
        n_bytes: size of the whole file, this frame included.
    """
    tag_at = 4 + header.side_info_bytes
    flags = int.from_bytes(frame[tag_at + 4 : tag_at + 8], "big")
    if not flags & _BYTES_FLAG:
        return frame
    at = tag_at + (12 if flags & _FRAMES_FLAG else 8)
    return frame[:at] + n_bytes.to_bytes(4, "big") + frame[at + 4 :]


def xing_frame(header: bytes, n_frames: int) -> bytes:
    """A silent frame that carries only the number of frames after it.

    Args:
        header: four bytes of the header of one of those frames.
        n_frames: number of frames.
    """
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
