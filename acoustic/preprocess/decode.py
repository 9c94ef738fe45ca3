"""Single entry point for decoding audio bytes to samples: HTTP, CLI and batch all use it.

    bytes ─▶ containers.layout: where the audio begins, its streams, what the headers state
          ─▶ a decoder per stream ─▶ one reader of the whole track

Magic bytes choose the decoder; a `DecodeGuard` checks what is decoded against limits in seconds,
in decoded bytes and in resampled samples. Nothing is allocated from a header and no header's
duration is trusted: a few kilobytes can claim hours, so every limit is checked before the block
that would exceed it.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import BinaryIO, cast

from acoustic.errors import AcousticError, AudioDecodeError
from acoustic.preprocess.containers.layout import (
    IGNORED_RATIO,
    MP2,
    Stream,
    check_decodable,
    is_plain,
    read_layout,
)
from acoustic.preprocess.containers.sniff import FOREIGN, HINT_BYTES, sniff
from acoustic.preprocess.containers.tags import after_tags
from acoustic.preprocess.decode_joined import JoinedReader
from acoustic.preprocess.decode_sndfile import ClampedBytesIO, SndfileReader
from acoustic.preprocess.guard import DecodeGuard, DecodeLimits
from acoustic.preprocess.mp3.slices import Mp3Slices
from acoustic.preprocess.ranged_file import (
    BytesMissingError,
    PartsError,
    Range,
    RangedFile,
    RangesUnavailableError,
)
from acoustic.preprocess.reader import AudioReader
from acoustic.preprocess.waveform import ChannelPowers, Waveform
from acoustic.types import AudioInfo, Segment

logger = logging.getLogger(__name__)

COMPLETE_RATIO = 0.8
"""Audio that ends before this share of its stated length is damaged, not just rounded."""

MAX_STUMP_RATIO = 0.02
MAX_STUMP_BYTES = 16 << 10
"""Share of a file, and bytes, up to which its last recording is left out if it cannot be opened."""

MIN_MISMATCH_S = 0.1  # a shorter difference is the padding of a frame


def open_audio(data: bytes, limits: DecodeLimits | None = None) -> AudioReader:
    """Open a file's bytes with the decoders for its streams.

    Args:
        data: the file's bytes.
        limits: bounds on what decoding may cost; None for the defaults.

    Raises:
        InvalidRequestError: `data` is empty.
        UnsupportedAudioError: a format, sample rate or channel count outside the limits, or a
            container whose decoder is not installed.
        AudioDecodeError: the header cannot be read, there is no audio, or much less than stated.
        AudioTooLongError: the track is longer than the limit.
    """
    with decoder_errors():
        return _open_streams(data, DecodeGuard(limits or DecodeLimits()))


@contextmanager
def decoder_errors() -> Iterator[None]:
    """Whatever a decoder raises about a file is an error of that file, and of no other.

    Raises:
        AudioDecodeError: replaces any exception that is not an AcousticError.
    """
    try:
        yield
    except (AcousticError, PartsError, MemoryError):
        raise
    except Exception as error:
        logger.warning("a decoder failed in a way of its own", exc_info=True)
        raise AudioDecodeError("the audio cannot be decoded") from error


def _open_streams(data: bytes, guard: DecodeGuard) -> AudioReader:
    streams = _without_stump(read_layout(data), len(data), guard)
    has_av = importlib.util.find_spec("av") is not None
    for stream in streams:
        check_decodable(stream, has_av)
    if len(streams) == 1:
        reader = _open(streams[0], guard)
        reader.info = _checked(reader, streams[0])
        return reader
    joined = JoinedReader([partial(_open, stream, guard) for stream in streams], guard)
    # other programs show the length of the first recording, or what its header states of it
    stated_s = streams[0].stated_s or joined.durations_s[0]
    joined.info = _with_stated(joined.info, stated_s, joined.info.duration_s or 0.0)
    return joined


def _without_stump(streams: list[Stream], n_bytes: int, guard: DecodeGuard) -> list[Stream]:
    """The streams without a last one that holds no sound: a recording of radio ends anywhere."""
    last = streams[-1]
    if len(streams) == 1 or last.container in FOREIGN or last.codec:
        return streams
    if len(last.read()) > max(MAX_STUMP_BYTES, MAX_STUMP_RATIO * n_bytes):
        return streams
    try:
        _open(last, guard)
    except AudioDecodeError:
        return streams[:-1]
    return streams


def _open(stream: Stream, guard: DecodeGuard) -> AudioReader:
    data = stream.read()
    if stream.container not in (*FOREIGN, MP2) and not stream.codec:
        slices = Mp3Slices.of_bytes(data) if stream.container == "MP3" else None
        return SndfileReader(lambda: ClampedBytesIO(data), guard, slices)
    from acoustic.preprocess.decode_av import AvReader

    return AvReader(data, stream.container, guard)


def _checked(reader: AudioReader, stream: Stream) -> AudioInfo:
    """Facts of a file, corrected where its header contradicts what is there."""
    info, present_s = reader.info, stream.present_s
    duration_s = info.duration_s or 0.0
    if stream.stated_ratio is not None:  # the decoder has stopped where the bytes end
        return _with_stated(info, duration_s * stream.stated_ratio, duration_s)
    stated_s = info.stated_duration_s or stream.stated_s
    if info.stated_duration_s is not None:
        present_s = duration_s
    promised_s = max(duration_s, info.stated_duration_s or 0.0)
    if present_s is not None and present_s < promised_s and _differ(promised_s, present_s):
        if present_s < COMPLETE_RATIO * promised_s:
            raise _truncated(promised_s, present_s)
        info = replace(info, duration_s=present_s)
    if stated_s is None:
        return info
    return _with_stated(info, stated_s, present_s if present_s is not None else duration_s)


def _with_stated(info: AudioInfo, stated_s: float, present_s: float) -> AudioInfo:
    differs = _differ(stated_s, present_s)
    return replace(info, stated_duration_s=stated_s if differs else None)


def _differ(stated_s: float, present_s: float) -> bool:
    difference_s = abs(stated_s - present_s)
    return difference_s > max(IGNORED_RATIO * stated_s, MIN_MISMATCH_S)


def read_complete(
    reader: AudioReader,
    segment: Segment,
    channel: int | None = None,
    powers: ChannelPowers | None = None,
) -> Waveform:
    """Decode a segment that must be there; see `AudioReader.read`.

    Raises:
        AudioDecodeError: less than COMPLETE_RATIO of it could be decoded.
    """
    waveform = reader.read(segment, channel, powers)
    length_s = segment.end_s - segment.start_s
    if waveform.samples.size < COMPLETE_RATIO * length_s * waveform.sample_rate:
        end_s = segment.start_s + waveform.samples.size / waveform.sample_rate
        raise _truncated(reader.info.duration_s or 0.0, end_s)
    return waveform


def _truncated(promised_s: float, end_s: float) -> AudioDecodeError:
    return AudioDecodeError(
        f"the header promises {promised_s:.1f} s of audio, but decoding ends at {end_s:.1f} s: "
        "the file is truncated or damaged"
    )


class RangedReader:
    """An opened audio file that fetches only the bytes that the requested segments need.

    Args:
        file: ranged file to decode from.
        limits: bounds on what decoding may cost; None for the defaults.

    Raises:
        RangesUnavailableError: the file must be read whole.
        InputError: any error that `open_audio` raises.
    """

    def __init__(self, file: RangedFile, limits: DecodeLimits | None = None) -> None:
        container = sniff(file.peek(0, HINT_BYTES))
        if container is None and file.peek(0, 3) == b"ID3":
            start = after_tags(file)
            container = sniff(file.peek(start, start + HINT_BYTES))
            if container != "MP3":
                container = None
        if container in (None, *FOREIGN):
            raise RangesUnavailableError("this container cannot be read by ranges")
        if container != "MP3" and not is_plain(container, file):
            raise RangesUnavailableError("the header does not state what the file has")
        self._file, self._slices = file, None
        if container == "MP3":
            self._slices = Mp3Slices.of_ranges(file)
            if self._slices is None:
                raise RangesUnavailableError("the places of the frames cannot be computed")
            file.begun = after_tags(file)  # a decoder would read a picture in a tag to its end
        try:
            guard = DecodeGuard(limits or DecodeLimits())
            self._reader = SndfileReader(self._from_start, guard, self._slices)
        finally:
            self._check_fetched()
        self.info = self._reader.info

    def expect(self, segments: Sequence[Segment]) -> None:
        """Fetch the frames of an MP3 that some segments need; call it before reading them.

        Args:
            segments: parts of the track that are read next.

        Raises:
            RangesUnavailableError: the file must be read whole.
            BytesMissingError: some of them are not at hand, of a file that is made of parts.
        """
        if self._slices is None:
            return
        rate = self.info.sample_rate
        missing: list[Range] = []
        for segment in segments:
            try:
                found = self._slices.cut(round(segment.start_s * rate), round(segment.end_s * rate))
            except BytesMissingError as error:
                missing += error.ranges
                continue
            if found is None:
                raise RangesUnavailableError("a frame is not where a constant bitrate puts it")
        if missing:
            raise BytesMissingError(tuple(missing))

    def read(
        self,
        segment: Segment,
        channel: int | None = None,
        powers: ChannelPowers | None = None,
    ) -> Waveform:
        """Decode one segment; see `AudioReader.read`.

        Raises:
            Exception: the error of a failed fetch, as its store raised it.
        """
        try:
            waveform = self._reader.read(segment, channel, powers)
        finally:
            self._check_fetched()
        return waveform

    def _check_fetched(self) -> None:
        """Raise the error of a failed fetch, which the decoder took for the end of the file."""
        if self._file.failure is not None:
            raise self._file.failure

    def _from_start(self) -> BinaryIO:
        self._file.seek(0)
        return cast(BinaryIO, self._file)
