"""WAV, FLAC, Ogg, MP3, AIFF, AU, CAF and W64 through libsndfile, one segment at a time.

A file is decoded in blocks, and each block is mixed down to mono at once, so extra channels
cost the memory of one block only. Streamed FLAC (a header without a length) is legal; its
frames are counted by decoding it once.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile as sf

from acoustic.errors import AudioDecodeError, UnsupportedAudioError
from acoustic.preprocess.guard import DecodeGuard
from acoustic.preprocess.mp3.slices import Mp3Slices
from acoustic.preprocess.waveform import ChannelPowers, Downmix, Waveform
from acoustic.types import AudioInfo, Segment

BLOCK_BYTES = 1 << 20
"""Decoded float32 bytes per block, over all channels."""

RUN_UP_S = 0.2
"""Seconds decoded and dropped before a segment that does not start where the last one ended."""

MP3_RUN_UP_S = 0.8
"""The same for MP3, to fill the bit reservoir: 255 bytes at 8 kbit/s, and some frames."""

UNKNOWN_FRAMES = 2**62
"""libsndfile reports 2^63 − 1 frames for a FLAC stream without a length."""

SNDFILE_FORMATS = {
    "WAV": "WAV", "WAVEX": "WAV", "RF64": "WAV", "W64": "W64", "FLAC": "FLAC", "OGG": "Ogg",
    "MP3": "MP3", "AIFF": "AIFF", "AU": "AU", "CAF": "CAF",
}  # fmt: skip
"""libsndfile's format names → ours. A file that it detects as any other format is rejected."""


class SndfileReader:
    """An opened audio file that decodes any segment on request.

    Args:
        open_stream: returns a binary file at its start; may be called more than once.
        guard: counts what is decoded and checks it against the limits.
        slices: cuts segments out of an MP3, in which seeking costs a walk over all frames.

    Raises:
        UnsupportedAudioError: a format, sample rate or channel count outside the limits.
        AudioDecodeError: the header cannot be read, or there is no audio.
        AudioTooLongError: the track is longer than the limit.
    """

    def __init__(
        self,
        open_stream: Callable[[], BinaryIO],
        guard: DecodeGuard,
        slices: Mp3Slices | None = None,
    ) -> None:
        self._open_stream = open_stream
        self._guard = guard
        self._slices = slices
        self._position, self._is_cut = 0, False
        self._sound = self._open()
        guard.check_layout(self._sound.samplerate, self._sound.channels)
        self._n_frames = self._count_frames()
        duration_s = self._n_frames / self._sound.samplerate
        guard.check_duration(duration_s)
        self.info = AudioInfo(
            duration_s=duration_s,
            sample_rate=self._sound.samplerate,
            channels=self._sound.channels,
            format=SNDFILE_FORMATS[self._sound.format],
        )

    def read(
        self,
        segment: Segment,
        channel: int | None = None,
        powers: ChannelPowers | None = None,
    ) -> Waveform:
        """Decode one segment at the file's own rate; see `decode.AudioReader.read`."""
        mix = Downmix(self.info.sample_rate, channel, powers)
        rate = self._sound.samplerate
        start = round(segment.start_s * rate)
        n_wanted = min(round((segment.end_s - segment.start_s) * rate), self._n_frames - start)
        if not self._cut(start, start + n_wanted):
            self._seek_with_run_up(start)
        blocks: list[npt.NDArray[np.float32]] = []
        n_got = n_clipped = 0
        while n_got < n_wanted:
            block = self._read_block(n_wanted - n_got)
            if not len(block):
                break
            n_clipped += self._guard.inspect(block)
            blocks.append(mix(block))
            n_got += len(block)
        samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
        clipping_ratio = n_clipped / max(1, n_got * self._sound.channels)
        return Waveform(
            samples=samples,
            sample_rate=rate,
            clipping_ratio=clipping_ratio,
            channels_power=mix.channels_power,
        )

    def _open(self, stream: BinaryIO | None = None) -> sf.SoundFile:
        try:
            sound = _Stream(stream or self._open_stream())
        except (sf.LibsndfileError, TypeError, OverflowError) as error:
            raise AudioDecodeError("the audio's header cannot be read") from error
        self._position, self._is_cut = 0, stream is not None
        if sound.format not in SNDFILE_FORMATS:
            raise UnsupportedAudioError(f"{sound.format} audio is not accepted")
        return sound

    def _count_frames(self) -> int:
        """Number of frames by the header, or counted by decoding where the header has none."""
        if self._sound.frames < UNKNOWN_FRAMES:
            return int(self._sound.frames)
        # This pass counts against the limit on decoded bytes as well, so it ends.
        n_frames = 0
        while n := len(self._read_block(UNKNOWN_FRAMES)):
            n_frames += n
        self._sound = self._open()
        return n_frames

    def _cut(self, frame: int, stop: int) -> bool:
        """Go on with only the frames of an MP3 that play a segment; False where that fails."""
        if self._slices is None or (frame == self._position and not self._is_cut):
            return False
        cut = self._slices.cut(frame, stop)
        if cut is None:
            return False
        self._sound = self._open(ClampedBytesIO(cut.data))
        self._position = cut.first_sample
        self._skip_to(frame)
        return self._position == frame

    def _seek_with_run_up(self, frame: int) -> None:
        """Seek to a little before `frame` and decode up to it.

        An MP3 frame may need bits of the frames before it and is silent where a seek skips them.
        """
        if self._is_cut:
            self._sound = self._open()
        if frame == self._position:
            return
        run_up_s = RUN_UP_S if self._slices is None else MP3_RUN_UP_S
        n_run_up = min(frame, round(run_up_s * self._sound.samplerate))
        self._seek(frame - n_run_up)
        while n_run_up > 0 and (n := len(self._read_block(n_run_up))):
            n_run_up -= n

    def _seek(self, frame: int) -> None:
        """Seek to a frame; a codec that cannot seek (GSM, some ADPCM) is decoded up to it."""
        if frame == self._position:
            return
        try:
            self._position = self._sound.seek(frame)
        except sf.LibsndfileError:
            self._skip_to(frame)

    def _skip_to(self, frame: int) -> None:
        if frame < self._position:  # the only way back without seeking is to start again
            self._sound = self._open()
        while self._position < frame and len(self._read_block(frame - self._position)):
            pass

    def _read_block(self, n_wanted: int) -> npt.NDArray[np.float32]:
        """Decode up to one block, (frames, channels); it is short only at the end of the file."""
        channels = self._sound.channels
        n_block = min(n_wanted, max(1, BLOCK_BYTES // (4 * channels)))
        self._guard.count(n_block, channels)  # before decoding, so the limit is never exceeded
        # NaN marks the rows that libsndfile has not written, in case it ends with an error.
        block = np.full((n_block, channels), np.nan, np.float32)
        try:
            block = self._sound.read(out=block, always_2d=True)
        except sf.LibsndfileError as error:
            # A FLAC stream without a length ends with an error, after its last samples were
            # written: they are the rows before the first one that is still NaN.
            untouched = np.flatnonzero(np.isnan(block[:, 0]))
            n_got = int(untouched[0]) if untouched.size else len(block)
            if n_got == 0 and self._sound.frames < UNKNOWN_FRAMES:
                raise AudioDecodeError("the audio cannot be decoded: damaged data") from error
            block = block[:n_got]
        self._position += len(block)
        return block


class _Stream(sf.SoundFile):  # type: ignore[misc]  # soundfile has no type information
    """A SoundFile without the seek that soundfile makes after every read.

    soundfile seeks to where it already is after each read of a seekable file, which resets an
    MP3 decoder: the first 60 ms of the next block then come out as silence.
    """

    def seekable(self) -> bool:
        return False


class ClampedBytesIO(io.BytesIO):
    """A BytesIO in which a seek before the start goes to position 0.

    Damaged headers ask for such seeks, and libsndfile's callback cannot report an exception.
    """

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Seek; positions before the start clamp to 0."""
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return super().seek(0)
