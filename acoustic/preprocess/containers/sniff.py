"""Detects the audio container of some bytes by their first bytes (magic numbers).

File names and content types can be wrong, and a decoder that receives the wrong format fails
with errors that no caller understands; so the bytes are checked against an allow-list first.
"""

from __future__ import annotations

import importlib.util

ACCEPTED = ("WAV", "FLAC", "Ogg", "MP3", "AIFF", "AU", "CAF", "W64")
"""Containers that libsndfile decodes; of Ogg, Vorbis and Opus."""

FOREIGN = ("MP4", "AAC", "WMA", "WebM")
"""Containers that need the `formats` extra (PyAV)."""

_W64_GUID = b"riff\x2e\x91\xcf\x11"
ASF_GUID = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
EBML_MAGIC = b"\x1a\x45\xdf\xa3"
HINT_BYTES = 12  # the longest check reads a 4-byte magic, a size and a type

_PREFIXES = {
    b"fLaC": "FLAC",
    b"OggS": "Ogg",
    b".snd": "AU",
    b"caff": "CAF",
    _W64_GUID: "W64",
    ASF_GUID: "WMA",
    EBML_MAGIC: "WebM",
}

_OTHERS = {
    b"wvpk": "WavPack audio", b"MAC ": "Monkey's Audio", b"DSD ": "DSF audio",
    b"FRM8": "DSDIFF audio", b"TTA1": "True Audio", b"MPCK": "Musepack audio",
    b"MP+": "Musepack audio", b"#!AMR": "raw AMR audio", b"MThd": "a MIDI file",
    b"#EXTM3U": "a playlist", b"[playlist]": "a playlist", b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture", b"GIF8": "a GIF picture", b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive", b"\x1f\x8b": "gzip-compressed data",
    b"7z\xbc\xaf": "a 7z archive", b"Rar!": "a RAR archive", b"FLV\x01": "FLV video",
    b"\x00\x00\x01\xba": "an MPEG program stream", b"\x7fELF": "a program", b"MZ": "a program",
    b".RMF": "RealMedia", b"<": "a text document", b"{": "a text document",
}  # fmt: skip
"""First bytes of what is sent by mistake → what an error calls it. It may contain frames that look
like MPEG audio, so no audio is searched in it."""


def sniff(head: bytes) -> str | None:
    """Name of the container, one of ACCEPTED or FOREIGN; None for anything else.

    Args:
        head: the first HINT_BYTES of the audio, behind any tag.

    >>> sniff(b"fLaC" + bytes(8))
    'FLAC'
    """
    return _chunked(head) or _by_prefix(head, _PREFIXES) or _mpeg(head)


def other_format(head: bytes) -> str | None:
    """What bytes that are not accepted are called, e.g. "a ZIP archive"; None if not known.

    Args:
        head: the first bytes of the file; with 189 or more, MPEG transport streams are detected.
    """
    if head[:4] in (b"RIFF", b"FORM"):
        return f"a {head[:4].decode()} file of type {head[8:12].decode('latin-1').strip()!r}"
    if head[:1] == b"\x47" and head[188:189] == b"\x47":
        return "an MPEG transport stream"
    return _by_prefix(head, _OTHERS)


def accepted_formats() -> str:
    """The containers that this installation decodes, as a phrase for an error message."""
    if importlib.util.find_spec("av") is not None:
        return ", ".join((*ACCEPTED, *FOREIGN))
    return (
        f"{', '.join(ACCEPTED)}; with the extra acousticsense[formats] also {', '.join(FOREIGN)} "
        "and FLAC in Ogg"
    )


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


def _by_prefix(head: bytes, names: dict[bytes, str]) -> str | None:
    return next((name for prefix, name in names.items() if head.startswith(prefix)), None)


def _mpeg(head: bytes) -> str | None:
    """MP3, AAC or None. MPEG audio has no magic, only an 11-bit sync and reserved values."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    layer, bitrate, rate = head[1] & 0x06, head[2] >> 4, (head[2] >> 2) & 0x03
    if layer == 0:  # layer bits 00 under the same sync are ADTS, raw AAC
        return "AAC" if head[1] & 0xF0 == 0xF0 else None
    return "MP3" if bitrate != 0x0F and rate != 0x03 else None
