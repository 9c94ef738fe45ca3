"""WAV, AIFF, AU, CAF and W64: how many bytes of samples the header states, and how many there are.

A recorder that crashed leaves a size of 0 or an old one; a program that writes to a pipe leaves the
largest number; a file that was cut has fewer bytes than it states; joined files have more. None
of these containers can be decoded past its stated size, so the header is corrected where bytes
follow that are not chunks.

Source: RIFF (Microsoft, 1991), RF64 (EBU Tech 3306), AIFF-C (Apple, 1991), Sun AU, CAF (Apple).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from acoustic.preprocess.containers.sniff import HINT_BYTES, sniff
from acoustic.preprocess.containers.source import ByteSource

Order = Literal["little", "big"]

MAX_CHUNKS = 4096
UNKNOWN_BYTES = 0x7F000000
"""A stated size from here on means "not known": writers leave 7FFFF000 or FFFFFFFF."""

CHUNKS = frozenset(
    (b"LIST", b"ID3 ", b"BEXT", b"FACT", b"CUE ", b"SMPL", b"JUNK", b"PAD ", b"FLLR", b"IXML",
     b"_PMX", b"ACID", b"INST", b"NOTE", b"PLST", b"CART", b"DISP", b"PEAK", b"AFSP", b"CHNA",
     b"AXML", b"UMID", b"REGN", b"LEVL", b"STRC", b"MARK", b"COMT", b"NAME", b"AUTH", b"ANNO",
     b"APPL", b"(C) ", b"COMM", b"MINF", b"ELM1")
)  # fmt: skip
"""Names of chunks, in capitals, that may stand behind the samples."""

PADDING_BYTES = 1 << 14
"""Bytes at both ends of the rest of a file that are zero in padding."""

MIN_HIDDEN_RATIO = 0.02
"""Bytes behind the samples that are a smaller share of them are padding, not sound."""


@dataclass(frozen=True, slots=True)
class SampleBytes:
    """Where the samples of a file lie.

    Attributes:
        start: position of the first sample, bytes.
        stated: number of bytes that the header states; None where it says "not known" or 0.
        present: number of bytes that belong to the samples: all up to the next chunk, the next
            file or the end.
        next_file: position where another file is joined on; None without one.
        fixes: position → bytes that make the header state `present`; empty if they agree.
    """

    start: int
    stated: int | None
    present: int
    next_file: int | None
    fixes: dict[int, bytes]


def read_sample_bytes(container: str, source: ByteSource) -> SampleBytes | None:
    """Find the samples of a file; None where its chunks cannot be followed.

    Args:
        container: "WAV", "AIFF", "AU", "CAF" or "W64".
        source: file that begins with the container's magic.
    """
    if container == "AU":
        return _read_au(source)
    if container == "CAF":
        return _read_caf(source)
    if container == "W64":
        return _read_w64(source)
    return _read_iff(source)


def corrected(data: bytes, fixes: dict[int, bytes]) -> bytes:
    """A copy of a file with some bytes replaced."""
    if not fixes:
        return data
    copy = bytearray(data)
    for at, content in fixes.items():
        copy[at : at + len(content)] = content
    return bytes(copy)


def _read_iff(source: ByteSource) -> SampleBytes | None:
    """RIFF, RIFX, RF64 (WAV) and FORM (AIFF)."""
    magic = source.peek(0, 4)
    order: Order = "little" if magic in (b"RIFF", b"RF64") else "big"
    wanted = b"SSND" if magic == b"FORM" else b"data"
    at, long_size, comm_at, ds64_at = 12, None, None, None
    for _ in range(MAX_CHUNKS):
        head = source.peek(at, at + 8)
        if len(head) < 8:
            return None
        size = int.from_bytes(head[4:8], order)
        if head[:4] == wanted:
            break
        if head[:4] == b"ds64":
            ds64_at = at + 8
            long_size = int.from_bytes(source.peek(ds64_at + 8, ds64_at + 16), "little")
        if head[:4] == b"COMM":
            comm_at = at + 8
        at += 8 + size + size % 2
    else:
        return None
    if magic == b"RF64" and size == 0xFFFFFFFF and long_size is not None:
        size = long_size
    found = _measure(source, at + 8, size, order)
    if found is None or found.present >= 1 << 32:
        return found
    end = found.start + found.present
    if ds64_at is not None:  # RF64: the sizes of file and samples, 8 bytes each
        sizes = (end - 8).to_bytes(8, "little") + found.present.to_bytes(8, "little")
        return found if size >= found.present else replace(found, fixes={ds64_at: sizes})
    fixes = {
        4: (end - 8).to_bytes(4, order),
        at + 4: found.present.to_bytes(4, order),
    }
    if comm_at is not None:
        fixes |= _comm_fix(source.peek(comm_at, comm_at + 18), comm_at, found.present - 8)
    return found if size >= found.present else replace(found, fixes=fixes)


def _comm_fix(comm: bytes, at: int, n_bytes: int) -> dict[int, bytes]:
    """AIFF states the number of sample frames a second time."""
    channels, bits = int.from_bytes(comm[:2], "big"), int.from_bytes(comm[6:8], "big")
    frame_bytes = channels * ((bits + 7) // 8)
    if not frame_bytes or n_bytes < 0:
        return {}
    return {at + 2: (n_bytes // frame_bytes).to_bytes(4, "big")}


def _read_au(source: ByteSource) -> SampleBytes | None:
    head = source.peek(0, 12)
    order: Order = "big" if head[:4] == b".snd" else "little"
    start = int.from_bytes(head[4:8], order)
    size = int.from_bytes(head[8:12], order)
    found = _measure(source, start, size, None)
    if found is None or found.present >= 1 << 32:
        return found
    if size >= found.present:  # decoders stop at the end of the file by themselves
        return found
    return replace(found, fixes={8: found.present.to_bytes(4, order)})


def _read_caf(source: ByteSource) -> SampleBytes | None:
    at = 8
    for _ in range(MAX_CHUNKS):
        head = source.peek(at, at + 12)
        if len(head) < 12:
            return None
        size = int.from_bytes(head[4:12], "big", signed=True)
        if head[:4] == b"data":
            # -1: up to the end of the file; the chunk begins with a counter of edits, 4 bytes
            return _without_hidden(
                _measure(source, at + 12, size if size >= 0 else UNKNOWN_BYTES, None)
            )
        if size < 0:
            return None
        at += 12 + size
    return None


def _read_w64(source: ByteSource) -> SampleBytes | None:
    at = 40  # behind the GUID and size of the file, and the GUID of its type
    for _ in range(MAX_CHUNKS):
        head = source.peek(at, at + 24)
        if len(head) < 24:
            return None
        size = int.from_bytes(head[16:24], "little")  # with its own header of 24 bytes
        if size < 24:
            return None
        if head[:4] == b"data":
            return _without_hidden(_measure(source, at + 24, size - 24, None))
        at += -(-size // 8) * 8
    return None


def _measure(
    source: ByteSource, start: int, stated: int, order: Order | None
) -> SampleBytes | None:
    """Compare a stated size with the bytes from `start` to the end of the file.

    Args:
        source: file to look at.
        start: position of the samples.
        stated: size that the header states.
        order: byte order of the chunks behind the samples, None where there cannot be any.
    """
    rest = source.size_bytes - start
    if rest <= 0:
        return None
    known = None if stated == 0 or stated >= UNKNOWN_BYTES else stated
    if stated >= rest:
        return SampleBytes(start, known, rest, None, {})
    end = start + stated
    next_file, are_chunks = _follow(source, end, order)
    is_hidden = rest - stated > MIN_HIDDEN_RATIO * stated and not _is_no_sound(source, end)
    if next_file is None and not are_chunks and is_hidden:
        return SampleBytes(start, known, rest, None, {})
    return SampleBytes(start, stated, stated, next_file, {})


def _is_no_sound(source: ByteSource, at: int) -> bool:
    """Whether the bytes behind the samples are a tag, a known chunk that is cut off, or padding."""
    head = source.peek(at, at + 8)
    if head[:4].upper() in CHUNKS or head[at % 2 :][:4].upper() in CHUNKS:
        return True
    if head.startswith((b"ID3", b"TAG", b"APETAGEX")):
        return True
    last = source.peek(source.size_bytes - PADDING_BYTES, source.size_bytes)
    return not any(source.peek(at, at + PADDING_BYTES)) and not any(last)


def _follow(source: ByteSource, at: int, order: Order | None) -> tuple[int | None, bool]:
    """What is behind the samples: where another file begins, and whether chunks fill the rest."""
    for _ in range(MAX_CHUNKS):
        for begun in (at, at + at % 2):  # a chunk of odd size is followed by a byte of padding
            if sniff(source.peek(begun, begun + HINT_BYTES)) not in (None, "MP3", "AAC"):
                return begun, False
        at += at % 2
        head = source.peek(at, at + 8)
        if order is None or len(head) < 8:
            return None, order is not None
        size = int.from_bytes(head[4:8], order)
        is_named = all(32 <= byte < 127 for byte in head[:4])
        if not is_named or at + 8 + size > source.size_bytes:
            return None, False
        at += 8 + size
    return None, False


def _without_hidden(found: SampleBytes | None) -> SampleBytes | None:
    """Chunks of these containers may follow the samples, so only another file is looked for."""
    if found is None or found.stated is None or found.present <= found.stated:
        return found
    return replace(found, present=found.stated)
