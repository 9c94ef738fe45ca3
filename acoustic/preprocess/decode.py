"""Single entry point for decoding audio bytes to samples: HTTP, CLI and batch all use it.

Magic bytes choose the decoder; a `DecodeGuard` checks what is decoded against limits in seconds,
in decoded bytes and in resampled samples. Nothing is allocated from a header and no header's
duration is trusted: a few kilobytes can claim hours, so every limit is checked before the block
that would exceed it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import BinaryIO, Protocol, cast

from acoustic.errors import UnsupportedAudioError
from acoustic.preprocess import containers
from acoustic.preprocess.decode_sndfile import ClampedBytesIO, SndfileReader
from acoustic.preprocess.guard import DecodeGuard, DecodeLimits
from acoustic.preprocess.mp3.length import with_stated_length
from acoustic.preprocess.mp3.ranges import (
    RangesUnavailableError,
    fetch_segments,
    read_frame_table,
)
from acoustic.preprocess.ranged_file import RangedFile
from acoustic.preprocess.waveform import Waveform
from acoustic.types import AudioInfo, Segment


class AudioReader(Protocol):
    """An opened audio file that decodes any segment on request."""

    info: AudioInfo

    def read(self, segment: Segment) -> Waveform:
        """Decode one segment, mixed down to mono at the file's own rate.

        Args:
            segment: part of the track, in seconds; audio past the end of the track is left out.

        Returns:
            The samples that exist, possibly fewer than the segment asks for.

        Raises:
            AudioDecodeError: undecodable data, or samples that are not finite or too large.
            AudioTooLongError: the request's decoded bytes would exceed the limit.
        """


def open_audio(data: bytes, limits: DecodeLimits | None = None) -> AudioReader:
    """Open a file's bytes with the decoder for its container.

    Args:
        data: the file's bytes.
        limits: bounds on what decoding may cost; None for the defaults.

    Raises:
        InvalidRequestError: `data` is empty.
        UnsupportedAudioError: a format, sample rate or channel count outside the limits, or a
            container whose decoder is not installed.
        AudioDecodeError: the header cannot be read, or there is no audio.
        AudioTooLongError: the track is longer than the limit.
    """
    container = containers.sniff(data)
    guard = DecodeGuard(limits or DecodeLimits())
    if container == "MP3":
        data = with_stated_length(data)
    if container not in containers.FOREIGN:
        return SndfileReader(lambda: ClampedBytesIO(data), guard)
    if importlib.util.find_spec("av") is None:
        raise UnsupportedAudioError(
            f"{container} audio needs the optional extra acousticsense[formats]; accepted are "
            f"{', '.join(containers.ACCEPTED)}"
        )
    from acoustic.preprocess.decode_av import AvReader

    return AvReader(data, container, guard)


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
        container = containers.sniff(file.peek(0, containers.HINT_BYTES))
        if container in containers.FOREIGN:
            raise RangesUnavailableError(f"{container} files cannot be read by ranges")
        self._file, self._limits = file, limits or DecodeLimits()
        self._table = read_frame_table(file) if container == "MP3" else None
        self._reader = self._opened(())
        self.info = self._reader.info

    def expect(self, segments: Sequence[Segment]) -> None:
        """Fetch the bytes that some segments need; call it before reading them.

        Args:
            segments: parts of the track that are read next.

        Raises:
            RangesUnavailableError: the file must be read whole.
        """
        if self._table is not None:
            # A new reader: bytes that the old one has seen may be replaced by this fetch.
            self._reader = self._opened(segments)

    def read(self, segment: Segment) -> Waveform:
        """Decode one segment; see `AudioReader.read`.

        Raises:
            Exception: the error of a failed fetch, as its store raised it.
        """
        try:
            waveform = self._reader.read(segment)
        finally:
            self._check_fetched()
        return waveform

    def _opened(self, segments: Sequence[Segment]) -> SndfileReader:
        if self._table is not None:
            fetch_segments(self._file, self._table, segments)
        try:
            reader = SndfileReader(self._from_start, DecodeGuard(self._limits))
        finally:
            self._check_fetched()
        return reader

    def _check_fetched(self) -> None:
        """Raise the error of a failed fetch, which the decoder took for the end of the file."""
        if self._file.failure is not None:
            raise self._file.failure

    def _from_start(self) -> BinaryIO:
        self._file.seek(0)
        return cast(BinaryIO, self._file)
