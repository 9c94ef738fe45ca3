"""Finds where the audio in a file begins: behind tags, behind zeros, behind bounded junk.

A tag states its size, so any number of bytes may lie in it. Zeros are skipped as well: writers
leave padding that no tag counts. Other junk is searched for a header up to MAX_JUNK_BYTES; MPEG
frames have no magic, so AGREEING_FRAMES of them must follow each other.
"""

from __future__ import annotations

import re

from acoustic.errors import AudioDecodeError, InvalidRequestError, UnsupportedAudioError
from acoustic.preprocess.containers import adts
from acoustic.preprocess.containers.sniff import (
    HINT_BYTES,
    accepted_formats,
    other_format,
    sniff,
)
from acoustic.preprocess.containers.source import WholeFile
from acoustic.preprocess.containers.tags import after_tags
from acoustic.preprocess.mp3 import frames

MAX_JUNK_BYTES = 1 << 20
MAX_CANDIDATES = 1 << 14  # bytes that look like a frame header, each checked in Python

_OTHERS_BYTES = 256
_ZEROS = re.compile(rb"\0*")
_CANDIDATE = re.compile(
    rb"fLaC[\x00\x80]\x00\x00\x22|OggS\x00\x02|RIF[FX]....WAVE|RF64....WAVE|FORM....AIF[FC]"
    rb"|\.snd\x00\x00|caff\x00\x01|ftyp|\xff[\xe2-\xff]",
    re.DOTALL,
)


def locate(data: bytes) -> tuple[str, int]:
    """Container of a file, and the position where its audio begins.

    Args:
        data: content of the file.

    Raises:
        InvalidRequestError: `data` is empty.
        UnsupportedAudioError: no container that is known begins in the searched bytes.
        AudioDecodeError: the same, where the file starts with a tag.
    """
    if not data:
        raise InvalidRequestError("the audio is empty: 0 bytes")
    source = WholeFile(data)
    at = after_tags(source)
    if name := sniff(data[at : at + HINT_BYTES]):
        return name, at
    if kind := other_format(data[at : at + _OTHERS_BYTES]):
        raise UnsupportedAudioError(f"the bytes are {kind}; accepted are {accepted_formats()}")
    # behind zeros another tag may stand, and behind it the audio
    zeros = _ZEROS.match(data, at)
    begun = after_tags(source, zeros.end() if zeros else at)
    name = sniff(data[begun : begun + HINT_BYTES])
    if name and (name not in ("MP3", "AAC") or _agrees(data, begun)):
        return name, begun
    # a tag that states too many bytes ends inside the audio: search again from its start
    found = _search(data, begun) or (_search(data, min(at, 10)) if at else None)
    if found is None and at:
        raise AudioDecodeError(
            f"no audio follows the tag at the start of the file; accepted are {accepted_formats()}"
        )
    if found is None:
        raise UnsupportedAudioError(
            f"the bytes are not a known audio format; accepted are {accepted_formats()}"
        )
    return found


def _search(data: bytes, at: int) -> tuple[str, int] | None:
    """First container that begins at `at` or in the bounded junk behind it."""
    stop = min(len(data), at + MAX_JUNK_BYTES)
    for n, match in enumerate(_CANDIDATE.finditer(data, at, stop)):
        if n == MAX_CANDIDATES:
            break
        begun = match.start()
        if match[0] == b"ftyp":  # the size of the box stands before its name
            begun = max(0, begun - 4)
        elif data[begun] == 0xFF and not _agrees(data, begun):
            continue
        if name := sniff(data[begun : begun + HINT_BYTES]):
            return name, begun
    return None


def _agrees(data: bytes, at: int) -> bool:
    return frames.agrees(data, at) or adts.agrees(data, at)
