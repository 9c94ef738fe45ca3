"""The streams of audio in a file, and what its headers state about its length.

What a header states may be wrong: files are joined (`cat a.mp3 b.mp3`, recordings of radio),
headers are left from before an edit, files are cut. `read_layout` compares what a header states
with the bytes that are there, and splits joined files into streams that a decoder opens one by
one. `is_plain` answers from a few bytes whether there is anything to split or correct.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from acoustic.errors import AudioDecodeError, UnsupportedAudioError
from acoustic.preprocess.containers import adts, chunks, flac, ogg
from acoustic.preprocess.containers.locate import locate
from acoustic.preprocess.containers.sniff import (
    ASF_GUID,
    EBML_MAGIC,
    FOREIGN,
    HINT_BYTES,
    accepted_formats,
    sniff,
)
from acoustic.preprocess.containers.source import ByteSource, WholeFile
from acoustic.preprocess.mp3.length import read_streams

MAX_STREAMS = 256
"""Most recordings in one file; each costs opening a decoder."""

CHUNKED = ("WAV", "AIFF", "AU", "CAF", "W64")
IGNORED_RATIO = 0.02
"""Lengths that differ by a smaller ratio count as equal."""

NO_AUDIO = "no audio"
MP2 = "MP2"
"""MPEG layers I and II of varying bitrate, whose length only FFmpeg counts."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One recording in a file, which a decoder opens by itself.

    Attributes:
        container: its container, such as "MP3".
        codec: codec where the container does not determine the decoder, "" elsewhere.
        read: returns its bytes.
        stated_s: length that its header states, seconds; None where it is not known.
        stated_ratio: stated length over the decoder's, where only their ratio is known.
        present_s: length of what is there, seconds; None where it is not known.
    """

    container: str
    read: Callable[[], bytes]
    codec: str = ""
    stated_s: float | None = None
    stated_ratio: float | None = None
    present_s: float | None = None


def read_layout(data: bytes) -> list[Stream]:
    """The streams of a file, in order.

    Args:
        data: content of the file.

    Raises:
        InvalidRequestError: `data` is empty.
        UnsupportedAudioError: not a known container, or more than MAX_STREAMS recordings.
        AudioDecodeError: joined files of a container that cannot be split.
    """
    container, at = locate(data)
    streams: list[Stream] = []
    for stream in _streams(container, data, at):
        if len(streams) == MAX_STREAMS:
            raise UnsupportedAudioError(
                f"the file holds more than {MAX_STREAMS} joined recordings, the limit; split it"
            )
        streams.append(stream)
    if not streams:
        raise AudioDecodeError(f"the {container} file holds no audio that can be decoded")
    return streams


def is_plain(container: str, source: ByteSource) -> bool:
    """Whether a file is one recording as long as its header states, from a few of its bytes.

    Args:
        container: the file's container; MP3 has a check of its own, by its frame table.
        source: file that begins with the container's magic.
    """
    if container in CHUNKED:
        found = chunks.read_sample_bytes(container, source)
        return found is not None and found.present == found.stated and found.next_file is None
    if container == "FLAC":
        header = flac.read_header(source, 0)
        if header is None:
            return False
        end = flac.read_end(source, header)
        return end.is_rising and end.n_samples == header.n_samples
    return container == "Ogg" and ogg.is_single(source)


def _streams(container: str, data: bytes, at: int) -> Iterator[Stream]:
    if container == "MP3":
        yield from _mpeg(data, at)
    elif container == "AAC":
        yield from _adts(data, at)
    elif container == "Ogg":
        yield from _ogg(data, at)
    elif container == "FLAC":
        yield from _flac(data, at)
    elif container in CHUNKED:
        yield from _chunked(container, data, at)
    else:
        _refuse_joined(container, data, at)
        yield Stream(container, lambda: data[at:])


def _mpeg(data: bytes, at: int) -> Iterator[Stream]:
    found = read_streams(data, at)
    if not found.is_countable:
        yield Stream(MP2, lambda: found.streams[0].read(data))
        return
    stated_s = found.stated_s
    for each in found.streams:
        yield Stream(
            "MP3",
            lambda each=each: each.read(data),  # type: ignore[misc]
            stated_s=stated_s,
            present_s=each.duration_s or None,
        )
        stated_s = None


def _adts(data: bytes, at: int) -> Iterator[Stream]:
    runs = adts.scan(data, at)
    if not runs:
        yield Stream("AAC", lambda: data[at:])
        return
    groups: list[list[adts.AdtsRun]] = []
    for run in runs:
        if groups and groups[-1][0].form == run.form:
            groups[-1].append(run)
        else:
            groups.append([run])
    for group in groups:
        pieces = [(run.start, run.stop) for run in group]
        yield Stream("AAC", lambda p=pieces: b"".join(data[a:b] for a, b in p))  # type: ignore[misc]


def _ogg(data: bytes, at: int) -> Iterator[Stream]:
    for link in ogg.read_links(data, at):
        audio = [codec for codec in link.codecs if codec not in ("Skeleton", "Theora", "video")]
        codec = audio[0] if audio else NO_AUDIO
        # libsndfile reads one stream only; FFmpeg finds the audio beside a picture. What no codec
        # has in its first page is damaged, and libsndfile says so.
        simple = len(link.codecs) < 2 and codec in (*ogg.SNDFILE_CODECS, ogg.UNKNOWN)
        yield Stream(
            "Ogg",
            lambda a=link.start, b=link.stop: data[a:b],  # type: ignore[misc]
            codec="" if simple else codec,
        )


def _flac(data: bytes, at: int) -> Iterator[Stream]:
    whole = data[at:] if at else data
    source = WholeFile(whole)
    header = flac.read_header(source, 0)
    if header is None:
        yield Stream("FLAC", lambda: whole)
        return
    end = flac.read_end(source, header)
    if end.is_rising and end.n_samples == header.n_samples:
        yield Stream("FLAC", lambda: whole)
        return
    begins = flac.starts(whole, MAX_STREAMS + 1)
    for start, stop in zip(begins, [*begins[1:], len(whole)], strict=True):
        yield _one_flac(whole[start:stop])


def _one_flac(data: bytes) -> Stream:
    source = WholeFile(data)
    header = flac.read_header(source, 0)
    if header is None or not header.sample_rate:
        return Stream("FLAC", lambda: data)
    end = flac.read_end(source, header)
    stated_s = header.n_samples / header.sample_rate or None
    if end.n_samples is None:
        return Stream("FLAC", lambda: data, stated_s=stated_s)
    present_s = end.n_samples / header.sample_rate
    if header.n_samples and end.n_samples > header.n_samples:
        longer = flac.with_stated_samples(data, end.n_samples)
        return Stream("FLAC", lambda: longer, stated_s=stated_s, present_s=present_s)
    return Stream("FLAC", lambda: data, stated_s=stated_s, present_s=present_s)


def _chunked(container: str, data: bytes, at: int) -> Iterator[Stream]:
    """A file of chunks, then any file that is joined on."""
    while True:
        found = chunks.read_sample_bytes(container, WholeFile(data, at))
        stop = len(data)
        if found is not None and found.next_file is not None:
            stop = at + found.next_file
        fixes = found.fixes if found is not None else {}
        ratio = None
        if found is not None and found.stated is not None:
            ratio = found.stated / found.present
        yield Stream(
            container,
            lambda a=at, b=stop, f=fixes: chunks.corrected(data[a:b], f),  # type: ignore[misc]
            stated_ratio=ratio,
        )
        if found is None or found.next_file is None:
            return
        at = stop
        container = sniff(data[at : at + HINT_BYTES]) or container
        if container not in CHUNKED:
            yield from _streams(container, data, at)
            return


def _refuse_joined(container: str, data: bytes, at: int) -> None:
    """MP4, WebM and WMA: a decoder stops at the end of the first file, so others are not lost."""
    if container == "MP4":
        is_joined = _n_boxes(data, at, b"moov") > 1
    elif container == "WebM":
        second = data.find(EBML_MAGIC, at + 4)
        is_joined = second > 0 and any(
            kind in data[second : second + 64] for kind in (b"webm", b"matroska")
        )
    else:
        is_joined = data.find(ASF_GUID, at + 16) > 0
    if is_joined:
        raise AudioDecodeError(
            f"the file holds several {container} files joined together, of which only the first "
            "could be decoded; split it"
        )


def _n_boxes(data: bytes, at: int, kind: bytes) -> int:
    """Number of top-level boxes of one kind in an MP4 file."""
    n = 0
    for _ in range(chunks.MAX_CHUNKS):
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        n += name == kind
        if size < 8 or at + size >= len(data):
            break
        at += size
    return n


def check_decodable(stream: Stream, has_av: bool) -> None:
    """Reject a stream whose decoder is not installed or does not exist.

    Args:
        stream: the stream.
        has_av: whether PyAV is installed.

    Raises:
        UnsupportedAudioError: with the names of what is accepted.
    """
    if stream.codec == NO_AUDIO:
        raise UnsupportedAudioError(f"the {stream.container} file has no audio stream")
    name = f"{stream.codec} in {stream.container}" if stream.codec else stream.container
    needs_av = stream.container in (*FOREIGN, MP2) or stream.codec
    if stream.codec not in ("", "FLAC", *ogg.SNDFILE_CODECS):
        raise UnsupportedAudioError(f"{name} is not accepted; accepted are {accepted_formats()}")
    if needs_av and not has_av:
        raise UnsupportedAudioError(
            f"{name} needs the extra acousticsense[formats]; accepted are {accepted_formats()}"
        )
