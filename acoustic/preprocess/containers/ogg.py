"""Pages of Ogg: which codec a stream has, and where the links of a chained file begin.

An Ogg file may be several ones after another (a chain: radio recordings, joined files); each link
begins with pages that carry the flag "beginning of stream". Page headers state their size, so a
file is walked without decoding it.

Source: RFC 3533 (pages), RFC 7845 (Opus), the Ogg mappings of Vorbis, FLAC, Speex and Theora.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from acoustic.errors import UnsupportedAudioError
from acoustic.preprocess.containers.source import ByteSource, uneven_places

MAX_PAGES = 1 << 20
N_PROBES = 8
PROBE_BYTES = 1 << 16
"""Bytes searched for the next page; a page has at most 65,307."""

SNDFILE_CODECS = ("Vorbis", "Opus")
"""Codecs that libsndfile decodes in Ogg."""

UNKNOWN = "unknown"

_CODECS = {
    b"\x01vorbis": "Vorbis", b"OpusHead": "Opus", b"\x7fFLAC": "FLAC", b"Speex   ": "Speex",
    b"\x80theora": "Theora", b"fishead\0": "Skeleton", b"\x01video": "video",
}  # fmt: skip
_BEGINS = 0x02
_HEADER_BYTES = 27


@dataclass(frozen=True, slots=True)
class OggLink:
    """One link of a chain: a complete Ogg file.

    Attributes:
        start: position of its first page, bytes.
        stop: position behind its last page, bytes.
        codecs: codec of each stream in it, UNKNOWN where no codec is recognised.
    """

    start: int
    stop: int
    codecs: tuple[str, ...]


def read_links(data: bytes, at: int) -> list[OggLink]:
    """The links from a position to the end, in order; damaged places are skipped.

    Args:
        data: content of a file.
        at: position of the first page.

    Raises:
        UnsupportedAudioError: more than MAX_PAGES pages.
    """
    links: list[OggLink] = []
    start, codecs, in_header = at, list[str](), True
    for _ in range(MAX_PAGES):
        if data[at : at + 4] != b"OggS" or at + _HEADER_BYTES > len(data):
            at = data.find(b"OggS\0", at + 1)
            if at < 0:
                break
            continue
        if data[at + 5] & _BEGINS:
            if not in_header:
                links.append(OggLink(start, at, tuple(codecs)))
                start, codecs = at, []
            in_header = True
            body = at + _HEADER_BYTES + data[at + 26]
            codecs.append(_codec(data[body : body + 8]))
        else:
            in_header = False
        n_segments = data[at + 26]
        at += _HEADER_BYTES + n_segments + sum(data[at + 27 : at + 27 + n_segments])
    else:
        raise UnsupportedAudioError(
            f"the Ogg file has more than {MAX_PAGES} pages, the limit; encode it again"
        )
    return [*links, OggLink(start, len(data), tuple(codecs))]


def is_single(source: ByteSource, at: int = 0) -> bool:
    """Whether a file looks like one link with one Vorbis or Opus stream, from a few of its pages.

    All of them have the serial number of the first page, and their page numbers rise. Used where
    reading the whole file would be a waste.

    Args:
        source: file to look at.
        at: position of the first page.
    """
    pages: dict[int, tuple[bytes, int]] = {}
    last = max(0, source.size_bytes - at - PROBE_BYTES)
    for place in (*uneven_places(N_PROBES), 1.0):
        start = at + int(place * last)
        found = _pages(source.peek(start, start + PROBE_BYTES))
        if not found:
            return False
        pages |= {start + position: page for position, page in found.items()}
    if _first_codec(source, at) not in SNDFILE_CODECS:
        return False
    numbers = [number for _, (_, number) in sorted(pages.items())]
    serials = {serial for serial, _ in pages.values()}
    return len(serials) == 1 and all(a < b for a, b in pairwise(numbers))


def _first_codec(source: ByteSource, at: int) -> str:
    body = at + _HEADER_BYTES + source.peek(at + 26, at + 27)[0]
    return _codec(source.peek(body, body + 8))


def _pages(block: bytes) -> dict[int, tuple[bytes, int]]:
    """Position → serial and page number of each page that begins in a block."""
    found, at = {}, block.find(b"OggS\0")
    while 0 <= at <= len(block) - _HEADER_BYTES:
        number = int.from_bytes(block[at + 18 : at + 22], "little")
        found[at] = block[at + 14 : at + 18], number
        at = block.find(b"OggS\0", at + 4)
    return found


def _codec(packet: bytes) -> str:
    return next((name for magic, name in _CODECS.items() if packet.startswith(magic)), UNKNOWN)
