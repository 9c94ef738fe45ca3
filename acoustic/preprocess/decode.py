"""The one door through which audio bytes become samples: upload, reference and batch alike.

Nothing is allocated from a header and no header's duration is trusted: reading is block-wise,
and what comes out is counted against limits in seconds, in decoded bytes (frames × channels ×
4) and in resampled samples. A few kilobytes can claim hours, so every limit is checked before
the block that would break it. Blocks are mixed down to mono as they come.

Streamed FLAC (a header without a length) is legal and is counted by decoding it once.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soundfile as sf
import soxr

from acoustic.errors import AudioDecodeError, AudioTooLongError, UnsupportedAudioError
from acoustic.preprocess import containers
from acoustic.types import AudioInfo, Segment

BLOCK_BYTES = 1 << 20
"""Decoded float32 bytes per block, over all channels."""

RUN_UP_S = 0.2
"""Decoded and dropped before a segment that does not start where the last one ended."""

FULL_SCALE = 0.9995
"""A sample at or above this counts as clipped; 16-bit full scale is 0.99997."""

UNKNOWN_FRAMES = 2**62
"""libsndfile reports 2^63 − 1 frames for a FLAC stream without a length."""

SNDFILE_FORMATS = {
    "WAV": "WAV", "WAVEX": "WAV", "RF64": "WAV", "W64": "W64", "FLAC": "FLAC", "OGG": "Ogg",
    "MP3": "MP3", "AIFF": "AIFF", "AU": "AU", "CAF": "CAF",
}  # fmt: skip
"""libsndfile's own verdict must be on the list as well: its names → ours."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeLimits:
    """What one request may cost.

    Attributes:
        min_sample_rate: Hz; below it the resampler multiplies the audio.
        max_sample_rate: Hz.
        max_channels: channels.
        max_duration_s: longest track, by its header or by counting.
        max_decoded_bytes: decoded float32 bytes over all channels, per request.
        max_resampled_samples: mono samples after resampling, per request.
        max_abs_sample: largest magnitude, full scale being 1.
    """

    min_sample_rate: int = 4_000
    max_sample_rate: int = 384_000
    max_channels: int = 32
    max_duration_s: float = 4 * 3600.0
    max_decoded_bytes: int = 1 << 30
    max_resampled_samples: int = 1 << 26
    max_abs_sample: float = 64.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Waveform:
    """Mono samples with what was counted while decoding.

    Attributes:
        samples: (n,) float32, nominally in [-1, 1].
        sample_rate: Hz.
        clipping_ratio: share of samples at full scale over all channels, in [0, 1].
    """

    samples: npt.NDArray[np.float32]
    sample_rate: int
    clipping_ratio: float


class AudioReader:
    """An opened file that decodes any segment of itself.

    Args:
        data: the file's bytes.
        limits: what decoding may cost.

    Raises:
        InvalidRequestError: no bytes.
        UnsupportedAudioError: a format, sample rate or channel count outside the limits.
        AudioDecodeError: the header cannot be read, or there is no audio.
        AudioTooLongError: the track is longer than the limit.
    """

    def __init__(self, data: bytes, limits: DecodeLimits | None = None) -> None:
        self._data = data
        self._limits = limits or DecodeLimits()
        self._decoded_bytes = 0
        self._position = 0
        container = containers.sniff(data)
        if container in containers.FOREIGN:
            raise UnsupportedAudioError(
                f"{container} audio is not accepted here; accepted are "
                f"{', '.join(containers.ACCEPTED)}"
            )
        self._sound = self._open()
        self._check_layout()
        self._n_frames = self._count_frames()
        self.info = AudioInfo(
            duration_s=self._n_frames / self._sound.samplerate,
            sample_rate=self._sound.samplerate,
            channels=self._sound.channels,
            format=SNDFILE_FORMATS[self._sound.format],
        )
        self._check_duration()

    def read(self, segment: Segment) -> Waveform:
        """Decode one segment, mixed down to mono at the file's own rate.

        Args:
            segment: part of the track; what lies past the end is left out.

        Returns:
            The samples that exist, possibly fewer than asked for.

        Raises:
            AudioDecodeError: undecodable data, or samples that are not finite or absurd.
            AudioTooLongError: the request's decoded bytes would pass the limit.
        """
        rate = self._sound.samplerate
        start = round(segment.start_s * rate)
        n_wanted = min(round((segment.end_s - segment.start_s) * rate), self._n_frames - start)
        self._seek_with_run_up(start)
        blocks: list[npt.NDArray[np.float32]] = []
        n_got = n_clipped = 0
        while n_got < n_wanted:
            block = self._read_block(n_wanted - n_got)
            if not len(block):
                break
            n_clipped += self._inspect(block)
            blocks.append(_mix_down(block))
            n_got += len(block)
        samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
        clipping_ratio = n_clipped / max(1, n_got * self._sound.channels)
        return Waveform(samples=samples, sample_rate=rate, clipping_ratio=clipping_ratio)

    def _open(self) -> sf.SoundFile:
        try:
            sound = _Stream(_ClampedBytesIO(self._data))
        except (sf.LibsndfileError, TypeError, OverflowError) as error:
            raise AudioDecodeError("the audio's header cannot be read") from error
        self._position = 0
        if sound.format not in SNDFILE_FORMATS:
            raise UnsupportedAudioError(f"{sound.format} audio is not accepted")
        return sound

    def _check_layout(self) -> None:
        sound, limits = self._sound, self._limits
        if not limits.min_sample_rate <= sound.samplerate <= limits.max_sample_rate:
            raise UnsupportedAudioError(
                f"the sample rate is {sound.samplerate} Hz, limits are "
                f"{limits.min_sample_rate} to {limits.max_sample_rate} Hz"
            )
        if not 1 <= sound.channels <= limits.max_channels:
            raise UnsupportedAudioError(
                f"the audio has {sound.channels} channels, limit is {limits.max_channels}"
            )

    def _check_duration(self) -> None:
        duration_s = self.info.duration_s or 0.0
        if duration_s <= 0:
            raise AudioDecodeError("the file holds no audio: 0 samples")
        if duration_s > self._limits.max_duration_s:
            raise AudioTooLongError(
                f"the audio is {_minutes(duration_s)}, limit is "
                f"{_minutes(self._limits.max_duration_s)}"
            )

    def _count_frames(self) -> int:
        """The header's frames, or a count of them where the header has none."""
        if self._sound.frames < UNKNOWN_FRAMES:
            return int(self._sound.frames)
        n_frames = 0
        while n := len(self._read_block(UNKNOWN_FRAMES)):
            n_frames += n
        self._sound = self._open()
        return n_frames

    def _seek_with_run_up(self, frame: int) -> None:
        """Land a little early and decode up to the place: an MP3 frame may need bits of frames
        before it, and is silent where a seek has left those out.
        """
        if frame == self._position:
            return
        n_run_up = min(frame, round(RUN_UP_S * self._sound.samplerate))
        self._seek(frame - n_run_up)
        while n_run_up > 0 and (n := len(self._read_block(n_run_up))):
            n_run_up -= n

    def _seek(self, frame: int) -> None:
        if frame == self._position:
            return  # some codecs (GSM) decode from the start but cannot seek at all
        try:
            self._position = self._sound.seek(frame)
        except sf.LibsndfileError as error:
            raise AudioDecodeError(
                f"the audio cannot be decoded at {frame / self._sound.samplerate:.1f} s"
            ) from error

    def _read_block(self, n_wanted: int) -> npt.NDArray[np.float32]:
        """Up to one block, (frames, channels); fewer frames than possible only at the end."""
        channels = self._sound.channels
        n_block = min(n_wanted, max(1, BLOCK_BYTES // (4 * channels)))
        self._decoded_bytes += 4 * n_block * channels
        if self._decoded_bytes > self._limits.max_decoded_bytes:
            raise AudioTooLongError(
                f"decoding takes more than {self._limits.max_decoded_bytes >> 20} MiB, the limit"
            )
        block = np.full((n_block, channels), np.nan, np.float32)
        try:
            block = self._sound.read(out=block, always_2d=True)
        except sf.LibsndfileError as error:
            # A FLAC stream without a length ends with an error, after its last samples were
            # delivered: they stand before the first untouched row.
            untouched = np.flatnonzero(np.isnan(block[:, 0]))
            n_got = int(untouched[0]) if untouched.size else len(block)
            if n_got == 0 and self._sound.frames < UNKNOWN_FRAMES:
                raise AudioDecodeError("the audio cannot be decoded: damaged data") from error
            block = block[:n_got]
        self._position += len(block)
        return block

    def _inspect(self, block: npt.NDArray[np.float32]) -> int:
        """Refuse what no music file holds; count the samples at full scale."""
        peak = float(np.abs(block).max())
        if not math.isfinite(peak):
            raise AudioDecodeError("the audio holds samples that are not finite numbers")
        if peak > self._limits.max_abs_sample:
            raise AudioDecodeError(
                f"samples reach {peak:.3g}, limit is {self._limits.max_abs_sample:g} "
                "(full scale is 1)"
            )
        return int(np.count_nonzero(np.abs(block) >= FULL_SCALE)) if peak >= FULL_SCALE else 0


def resample(waveform: Waveform, sample_rate: int, limits: DecodeLimits) -> npt.NDArray[np.float32]:
    """The waveform's samples at another rate, by soxr in its high-quality setting.

    Args:
        waveform: mono samples.
        sample_rate: Hz wanted.
        limits: bound on the output's length.

    Returns:
        (n · sample_rate / waveform.sample_rate,) float32.

    Raises:
        AudioTooLongError: the output would be longer than the limit.
    """
    if waveform.sample_rate == sample_rate:
        return waveform.samples
    n_out = math.ceil(waveform.samples.size * sample_rate / waveform.sample_rate)
    if n_out > limits.max_resampled_samples:
        raise AudioTooLongError(
            f"the audio is {n_out} samples after resampling, limit is "
            f"{limits.max_resampled_samples}"
        )
    out = soxr.resample(waveform.samples, waveform.sample_rate, sample_rate, quality="HQ")
    return np.asarray(out, np.float32)


def decode_whole(
    data: bytes, sample_rate: int, limits: DecodeLimits | None = None
) -> npt.NDArray[np.float32]:
    """All of a file at one rate, for training and tests.

    Args:
        data: the file's bytes.
        sample_rate: Hz wanted.
        limits: what decoding may cost.

    Returns:
        (n,) float32 mono.

    Raises:
        InputError: any of AudioReader's and `read`'s refusals.
    """
    limits = limits or DecodeLimits()
    reader = AudioReader(data, limits)
    waveform = reader.read(Segment(start_s=0.0, end_s=reader.info.duration_s or 0.0))
    return resample(waveform, sample_rate, limits)


class _Stream(sf.SoundFile):  # type: ignore[misc]  # soundfile has no type information
    """A sound file that is not sought after every read.

    soundfile seeks to where it already is after each read of a seekable file, which resets an
    MP3 decoder: the first 60 ms of the next block then come out as silence.
    """

    def seekable(self) -> bool:
        return False


class _ClampedBytesIO(io.BytesIO):
    """Seeks before the start, which damaged headers ask for, end at the start: libsndfile's
    callback has no way to hear of an exception.
    """

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return super().seek(0)


def _mix_down(block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Mean over the channels; as a product it is many times cheaper than ndarray.mean."""
    channels = block.shape[1]
    if channels == 1:
        return block[:, 0]
    return block @ np.full(channels, 1 / channels, np.float32)


def _minutes(duration_s: float) -> str:
    return f"{duration_s / 60:,.1f} min"
