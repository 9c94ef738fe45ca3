"""Skips ID3v2 and APE tags in front of the audio, and between joined files.

Source: id3.org, ID3v2.4 sections 3.1 (header) and 3.4 (footer); APEv2 specification (tag header).
"""

from __future__ import annotations

from acoustic.preprocess.containers.source import ByteSource

MAX_TAGS = 16


def after_tags(source: ByteSource, at: int = 0) -> int:
    """Position behind all ID3v2 and APE tags that start at `at`; `at` itself without one.

    A tag that states more bytes than the file has counts as its header only.
    """
    for _ in range(MAX_TAGS):
        head = source.peek(at, at + 32)
        size = tag_bytes(head)
        if not size:
            return at
        at += size if at + size < source.size_bytes else min(10, len(head))
    return at


def tag_bytes(head: bytes) -> int:
    """Size of the tag that starts with `head`, with its header and footer; 0 if it is not one."""
    if head[:3] == b"ID3" and len(head) >= 10 and head[3] != 0xFF:
        size = 0  # 7 bits per byte, so that it never looks like a frame's sync
        for byte in head[6:10]:
            size = size << 7 | byte & 0x7F
        has_footer = head[5] & 0x10
        return 10 + size + (10 if has_footer else 0)
    if head[:8] == b"APETAGEX" and len(head) >= 32:
        return 32 + int.from_bytes(head[12:16], "little")
    return 0
