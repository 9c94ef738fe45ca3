"""An MP3 as one or more streams that a decoder reads to their ends.

Decoders believe the frame that states the length of a file (Xing, Info, VBRI), or guess a length
from the first bitrate where there is none, and stop there: of two joined files they return the
first one, of a file of varying bitrate a part. Here the frames are counted. Where the count
contradicts what the file states, its frames are put together behind a new Xing frame that states
their number; files whose frames agree with their length are passed on unchanged, to the bit.

Source: ISO/IEC 11172-3, section 2.4.2.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from acoustic.preprocess.containers.tags import tag_bytes
from acoustic.preprocess.mp3.frames import LAYER_3, Header, Run, parse_header, scan
from acoustic.preprocess.mp3.information import is_information, stated_frames, xing_frame

MAX_UNSTATED = 2
"""Frames by which a count may differ from the stated one: encoders count the Xing frame or not."""

MAX_JUNK_RATIO = 0.01
"""Share of bytes outside the frames above which a decoder's guess of the length is off."""

MIN_RUN_FRAMES = 4  # fewer frames of another format are a damaged place, not another stream


@dataclass(frozen=True, slots=True)
class MpegStream:
    """Frames of one format, as bytes that a decoder reads to the end.

    Attributes:
        pieces: start and stop of the pieces of the file, bytes.
        prefix: bytes in front of the pieces: a frame that states their length, or nothing.
        duration_s: length of the frames' audio, seconds.
    """

    pieces: tuple[tuple[int, int], ...]
    prefix: bytes
    duration_s: float

    def read(self, data: bytes) -> bytes:
        """Bytes of the stream, from the content of its file."""
        if not self.prefix and self.pieces == ((0, len(data)),):
            return data
        return b"".join((self.prefix, *(data[start:stop] for start, stop in self.pieces)))


@dataclass(frozen=True, slots=True)
class MpegFile:
    """The streams of a file.

    Attributes:
        streams: at least one; several where the sample rate, the channels or the layer change.
        stated_s: length that the file states, seconds; None where it states none.
        is_countable: whether a decoder that guesses the length from a bitrate is right; not so in
            layers I and II of varying bitrate, which have no frame that states a length.
    """

    streams: tuple[MpegStream, ...]
    stated_s: float | None
    is_countable: bool = True


def read_streams(data: bytes, at: int) -> MpegFile:
    """Find the streams of an MP3 file.

    Args:
        data: content of the file.
        at: position of its first frame.
    """
    whole = MpegStream(((0 if _is_behind_tag(data, at) else at, len(data)),), b"", 0.0)
    first = parse_header(data, at)
    if first is None:  # free format: only the decoder finds its frames
        return MpegFile((whole,), None)
    n_stated = stated_frames(data, at, first)
    if n_stated and _fits_constant_bitrate(data, at, first, n_stated):
        duration_s = n_stated * first.n_samples / first.sample_rate
        return MpegFile((replace_duration(whole, duration_s),), duration_s)
    runs = scan(data, at)
    groups = _of_one_format(runs)
    has_information = is_information(data, at, first)
    n_frames = sum(run.n_frames for run in runs) - has_information
    stated_s = n_stated * first.n_samples / first.sample_rate if n_stated else None
    duration_s = sum(run.duration_s for run in runs)
    bitrates = {run.header.bitrate_kbps for run in runs}
    if first.layer != LAYER_3 and (len(bitrates) > 1 or any(run.is_varying for run in runs)):
        pieces = tuple((run.start, run.stop) for run in runs)
        return MpegFile((MpegStream(pieces, b"", duration_s),), None, is_countable=False)
    if len(groups) == 1 and not _is_misleading(data, runs, n_stated, n_frames):
        return MpegFile((replace_duration(whole, duration_s),), stated_s)
    return MpegFile(tuple(_stream(data, group) for group in groups), stated_s)


def _fits_constant_bitrate(data: bytes, at: int, first: Header, n_stated: int) -> bool:
    """Whether a file of constant bitrate has the bytes of the frames that it states.

    "Info" instead of "Xing" stands for a constant bitrate, so there is no need to count.
    """
    tag_at = at + 4 + first.side_info_bytes
    mean_bytes = first.n_samples * 125 * first.bitrate_kbps / first.sample_rate
    n_bytes = len(data) - at
    is_constant = data[tag_at : tag_at + 4] == b"Info"
    return is_constant and abs(n_stated * mean_bytes - n_bytes) <= MAX_JUNK_RATIO * n_bytes


def replace_duration(stream: MpegStream, duration_s: float) -> MpegStream:
    """The same stream with another duration, in seconds."""
    return MpegStream(stream.pieces, stream.prefix, duration_s)


def _is_behind_tag(data: bytes, at: int) -> bool:
    """Whether only an ordinary ID3v2 tag is in front, which decoders skip by themselves."""
    if at == 0:
        return True
    return data[:3] == b"ID3" and not data[5] & 0x10 and at == tag_bytes(data[:10])


def _is_misleading(data: bytes, runs: Sequence[Run], n_stated: int | None, n_frames: int) -> bool:
    """Whether a decoder would stop before the last frame, or search frames behind it."""
    if n_stated is not None:
        # fewer frames than stated: the decoder finds out by itself, and the caller says so
        return n_frames > n_stated + MAX_UNSTATED
    if any(run.is_varying for run in runs) or len({r.header.bitrate_kbps for r in runs}) > 1:
        return runs[0].header.layer == LAYER_3
    n_bytes = sum(run.stop - run.start for run in runs)
    n_junk = len(data) - n_bytes  # a tag in front counts: decoders guess from the size of the file
    return runs[0].header.layer == LAYER_3 and n_junk > MAX_JUNK_RATIO * n_bytes


def _of_one_format(runs: Sequence[Run]) -> list[list[Run]]:
    """Neighbouring runs that one decoder reads; very short runs of a format of their own, which
    are junk or damage, are dropped.
    """
    formats = {_format(run) for run in runs if run.n_frames >= MIN_RUN_FRAMES}
    groups: list[list[Run]] = []
    for run in runs:
        if formats and _format(run) not in formats:
            continue
        if groups and _format(groups[-1][0]) == _format(run):
            groups[-1].append(run)
        else:
            groups.append([run])
    return groups


def _format(run: Run) -> tuple[object, ...]:
    header = run.header
    return header.version, header.layer, header.sample_rate, header.mono


def _stream(data: bytes, group: Sequence[Run]) -> MpegStream:
    """One stream of runs of a format, behind a frame that states how many frames they have."""
    pieces, n_frames = [], 0
    for run in group:
        start = run.start
        if is_information(data, start, run.header):  # it states the length of a part only
            start += run.header.size_bytes
            n_frames -= 1
        pieces.append((start, run.stop))
        n_frames += run.n_frames
    header = group[0].header
    prefix = b""
    if header.layer == LAYER_3:
        prefix = xing_frame(data[group[0].start : group[0].start + 4], n_frames)
    duration_s = n_frames * header.n_samples / header.sample_rate
    return MpegStream(tuple(pieces), prefix, duration_s)
