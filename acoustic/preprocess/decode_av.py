"""AAC, MP4, WMA, WebM and FLAC in Ogg through PyAV, for installations with the `formats` extra.

The detected container fixes the demuxer; frames are counted against the same limits as in
`decode_sndfile` and mixed down one by one. Timestamps, not the header, give the position of a
frame; decoding starts a little early, because AAC needs the frame before.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from acoustic.errors import AudioDecodeError, UnsupportedAudioError
from acoustic.preprocess.guard import DecodeGuard
from acoustic.preprocess.waveform import ChannelPowers, Downmix, Waveform
from acoustic.types import AudioInfo, Segment

DEMUXERS = {
    "MP4": "mov",
    "AAC": "aac",
    "WMA": "asf",
    "WebM": "matroska",
    "Ogg": "ogg",
    "MP2": "mp3",
}
UNSTATED = ("AAC", "MP2")
"""Containers without a stated length: FFmpeg's guess from the first frames may be far off."""
CODECS = (
    "aac", "alac", "flac", "mp3", "mp2", "opus", "vorbis", "wmav1", "wmav2", "wmapro", "ac3",
    "eac3", "amr_nb", "amr_wb", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_f32le",
)  # fmt: skip
"""Codecs that are decoded, no others, by FFmpeg's names."""

DECODERS = ",".join((*CODECS, "libopus", "mp3float", "mp2float", "amrnb", "amrwb"))
"""Decoders that the demuxer may use to look at streams: a picture could be a decompression bomb."""

END_TOLERANCE_S = 0.5
"""Packets that end this near to the stated end confirm it."""

MAX_STATED_DRIFT_S = 2.0
"""Seconds before the stated end at which the packets are counted, to see where they end."""

RUN_UP_S = 0.2  # seconds decoded and dropped before a segment


class AvReader:
    """An opened AAC, MP4, WMA or WebM file that decodes any segment; see `decode.AudioReader`.

    Args:
        data: the file's bytes.
        container: name of the container, a key of DEMUXERS.
        guard: counts what is decoded and checks it against the limits.

    Raises:
        AudioDecodeError: the file has no readable audio stream.
        UnsupportedAudioError: a sample rate or channel count outside the limits.
        AudioTooLongError: the track is longer than the limit.
    """

    def __init__(self, data: bytes, container: str, guard: DecodeGuard) -> None:
        self._guard = guard
        self._container = container
        self._file = _wrapped(
            lambda: av.open(
                io.BytesIO(data),
                format=DEMUXERS[container],
                options={"codec_whitelist": DECODERS},
            ),
            "the audio's header cannot be read",
        )
        if not self._file.streams.audio:
            raise AudioDecodeError(f"the {container} file has no audio stream")
        self._stream = self._file.streams.audio[0]
        _check_codec(self._stream, container)
        # FFmpeg reports None or 0 where it does not know; the guard rejects 0.
        rate, channels = self._stream.rate or 0, self._stream.channels or 0
        guard.check_layout(rate, channels)
        # Only the sample format is converted, so a frame keeps its length and position.
        self._convert = av.AudioResampler(format="flt", layout=self._stream.layout, rate=rate)
        message = "the audio's packets cannot be read"
        self.stated_s: float | None = _wrapped(self._stated_duration_s, message)
        duration_s = self.stated_s or _wrapped(lambda: self._count_s(0.0), message)
        guard.check_duration(duration_s)
        if self.stated_s is not None:
            duration_s = _wrapped(lambda: self._count_s(duration_s), message)
            guard.check_duration(duration_s)
        self.info = AudioInfo(
            duration_s=duration_s,
            sample_rate=rate,
            channels=channels,
            format=container,
            stated_duration_s=self.stated_s,
        )

    def read(
        self,
        segment: Segment,
        channel: int | None = None,
        powers: ChannelPowers | None = None,
    ) -> Waveform:
        """Decode one segment, mixed down to mono at the file's own rate.

        Args:
            segment: part of the track, in seconds.
            channel: number of the channel that is taken alone; None to average over all.
            powers: where the powers of each channel are added up.

        Raises:
            AudioDecodeError: undecodable data, or samples that are not finite or too large.
            AudioTooLongError: the request's decoded bytes would exceed the limit.
        """
        rate = self.info.sample_rate
        start = round(segment.start_s * rate)
        end = round(segment.end_s * rate)
        out = np.zeros(max(0, end - start), np.float32)
        mix = Downmix(self.info.sample_rate, channel, powers)
        # Timestamps place the blocks: a hole between two blocks stays 0, and what no block
        # reaches at the end is cut off.
        n_covered = 0
        n_clipped = n_samples = 0
        for position, block in self._blocks(segment):
            n_clipped += self._guard.inspect(block)
            n_samples += block.size
            low, high = max(position, start), min(position + len(block), end)
            if low < high:
                mono = mix(block[low - position : high - position])
                out[low - start : high - start] = mono
                n_covered = max(n_covered, high - start)
        return Waveform(
            samples=out[:n_covered],
            sample_rate=rate,
            clipping_ratio=n_clipped / max(1, n_samples),
            channels_power=mix.channels_power,
        )

    def _blocks(self, segment: Segment) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Position and (frames, channels) samples of each block, up to the end of the segment."""
        base = self._stream.time_base
        target_s = max(0.0, segment.start_s - RUN_UP_S)
        # Timestamps are in units of `base` seconds and may start at any value, not only at 0.
        origin_s = float((self._stream.start_time or 0) * base)
        _wrapped(
            lambda: self._file.seek(int((target_s + origin_s) / base), stream=self._stream),
            f"the audio cannot be decoded at {segment.start_s:.1f} s",
        )
        frames = self._file.decode(self._stream)
        known = (self.info.sample_rate, self.info.channels)
        while True:
            frame = _wrapped(lambda: next(frames, None), "the audio cannot be decoded")
            if frame is None or frame.pts is None:
                return
            time_s = frame.pts * base.numerator / base.denominator - origin_s
            if time_s >= segment.end_s:
                return
            if (frame.sample_rate, frame.layout.nb_channels) != known:
                raise self._changes(frame, time_s)
            self._guard.count(frame.samples, self.info.channels)
            for part in self._to_float(frame):
                block = part.to_ndarray().reshape(-1, self.info.channels)
                yield round(time_s * self.info.sample_rate), np.asarray(block, np.float32)

    def _to_float(self, frame: Any) -> list[Any]:
        """The frame as packed float32."""
        parts = _wrapped(lambda: self._convert.resample(frame), "the audio changes its layout")
        return [part for part in parts if part.samples]

    def _changes(self, frame: Any, time_s: float) -> AudioDecodeError:
        """Error of a stream that changes its rate or channels."""
        return AudioDecodeError(
            f"the audio changes from {self.info.sample_rate:,} Hz and {self.info.channels} "
            f"channels to {frame.sample_rate:,} Hz and {frame.layout.nb_channels} channels at "
            f"{time_s:.1f} s: split the file there or encode it again"
        )

    def _stated_duration_s(self) -> float | None:
        """Seconds that the container states, None where it states none."""
        if self._container in UNSTATED:
            return None
        if self._stream.duration:
            return float(self._stream.duration * self._stream.time_base)
        if self._file.duration:
            units_per_s: int = av.time_base
            return float(self._file.duration) / units_per_s
        return None

    def _count_s(self, stated_s: float) -> float:
        """Seconds of audio by the packets: those near the stated end, or all of them.

        Where no packet is near the stated end, all are counted from the start.
        """
        base, limit_s = self._stream.time_base, self._guard.limits.max_duration_s
        origin_s = float((self._stream.start_time or 0) * base)
        begin_s = max(0.0, stated_s - MAX_STATED_DRIFT_S)
        if self.stated_s is not None:
            self._file.seek(int((begin_s + origin_s) / base), stream=self._stream)
        counted_s = end_s = 0.0
        for packet in self._file.demux(self._stream):
            counted_s += float((packet.duration or 0) * base)
            if packet.pts is not None:
                end_s = float((packet.pts + (packet.duration or 0)) * base) - origin_s
            if max(counted_s, end_s) > limit_s:  # enough for the guard to reject it
                break
        if not stated_s:
            # timestamps of joined raw frames may start again, so they are counted
            return max(counted_s, end_s) if self._container not in UNSTATED else counted_s
        if abs(end_s - stated_s) <= END_TOLERANCE_S:
            return stated_s
        return end_s if end_s > begin_s else self._count_s(0.0)


def _check_codec(stream: Any, container: str) -> None:
    """Only listed codecs: an unknown one costs memory and time that nobody has measured."""
    # PyAV's streams of a codec that FFmpeg does not know have no context
    codec = getattr(getattr(stream, "codec_context", None), "codec", None)
    name = codec.canonical_name if codec is not None else "unknown"
    if name not in CODECS:
        raise UnsupportedAudioError(
            f"the audio in the {container} file is {name}; accepted are {', '.join(CODECS)}"
        )


def _wrapped(call: Callable[[], Any], message: str) -> Any:
    """Return the result of the call; raise FFmpeg's errors as AudioDecodeError."""
    try:
        return call()
    except (av.FFmpegError, ValueError, EOFError, OSError) as error:
        raise AudioDecodeError(message) from error
