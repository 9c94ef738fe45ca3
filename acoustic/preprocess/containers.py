"""Detects the audio container of some bytes by their first bytes (magic numbers).

File names and content types can be wrong, and a decoder that receives the wrong format fails
with errors that no caller understands; so the bytes are checked against an allow-list first.
"""

from __future__ import annotations

from acoustic.errors import InvalidRequestError, UnsupportedAudioError

ACCEPTED = ("WAV", "FLAC", "Ogg", "MP3", "AIFF", "AU", "CAF", "W64")
"""Containers that are accepted and decoded by libsndfile."""

FOREIGN = ("MP4", "AAC", "WMA", "WebM")
"""Containers that need the `formats` extra (PyAV)."""

SUFFIXES = (
    ".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".caf", ".w64",
    ".m4a", ".mp4", ".aac", ".wma", ".webm",
)  # fmt: skip
"""Extensions treated as audio when listing a folder; the bytes decide the real format."""

_W64_GUID = b"riff\x2e\x91\xcf\x11"
_ASF_GUID = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
HINT_BYTES = 12  # the longest check reads a 4-byte magic, a size and a type


def sniff(data: bytes) -> str:
    """Return the name of the container, one of ACCEPTED or FOREIGN.

    Args:
        data: the file's bytes, or at least the first 12 of them.

    Raises:
        InvalidRequestError: `data` is empty.
        UnsupportedAudioError: the bytes are not a known audio container.

    >>> sniff(b"fLaC" + bytes(8))
    'FLAC'
    """
    if not data:
        raise InvalidRequestError("the audio is empty: 0 bytes")
    head = bytes(data[:HINT_BYTES])
    name = _chunked(head) or _by_prefix(head) or _mpeg(head)
    if name is None:
        raise UnsupportedAudioError(
            f"the bytes are not a known audio format; accepted are {', '.join(ACCEPTED)}; "
            f"with the extra acousticsense[formats] also {', '.join(FOREIGN)}"
        )
    return name


def _chunked(head: bytes) -> str | None:
    # RIFF and IFF files: 4 bytes of magic, 4 of size, then the type. MP4: 4 of size, then `ftyp`.
    kind = head[8:12]
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and kind == b"WAVE":
        return "WAV"
    if head[:4] == b"FORM" and kind in (b"AIFF", b"AIFC"):
        return "AIFF"
    if head[4:8] == b"ftyp":
        return "MP4"
    return None


def _by_prefix(head: bytes) -> str | None:
    prefixes = {
        b"fLaC": "FLAC",
        b"OggS": "Ogg",
        b"ID3": "MP3",
        b".snd": "AU",
        b"caff": "CAF",
        _W64_GUID: "W64",
        _ASF_GUID: "WMA",
        b"\x1a\x45\xdf\xa3": "WebM",
    }
    return next((name for prefix, name in prefixes.items() if head.startswith(prefix)), None)


def _mpeg(head: bytes) -> str | None:
    """MP3, AAC or None. MPEG audio has no magic, only an 11-bit sync and reserved values."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    layer, bitrate, rate = head[1] & 0x06, head[2] >> 4, (head[2] >> 2) & 0x03
    if layer == 0:  # layer bits 00 under the same sync are ADTS, raw AAC
        return "AAC" if head[1] & 0xF0 == 0xF0 else None
    return "MP3" if bitrate != 0x0F and rate != 0x03 else None
