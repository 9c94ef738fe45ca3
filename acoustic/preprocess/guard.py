"""Limits on decoding one request, and the checks that enforce them, for all decoders."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from acoustic.errors import AudioDecodeError, AudioTooLongError, UnsupportedAudioError

FULL_SCALE = 0.9995
"""A sample at or above this counts as clipped; 16-bit full scale is 0.99997."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeLimits:
    """Limits on what decoding one request may cost.

    Attributes:
        min_sample_rate: lowest accepted rate, Hz; below it resampling multiplies the samples.
        max_sample_rate: highest accepted rate, Hz.
        max_channels: largest accepted number of channels.
        max_duration_s: longest accepted track, seconds, by its header or by counting.
        max_decoded_bytes: decoded float32 bytes over all channels, per request.
        max_resampled_samples: mono samples after resampling, per request.
        max_abs_sample: largest accepted magnitude of a sample; full scale is 1.
    """

    min_sample_rate: int = 4_000
    max_sample_rate: int = 384_000
    max_channels: int = 32
    max_duration_s: float = 4 * 3600.0
    max_decoded_bytes: int = 1 << 30
    max_resampled_samples: int = 1 << 26
    max_abs_sample: float = 64.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be positive")
        if self.min_sample_rate > self.max_sample_rate:
            raise ValueError("min_sample_rate is above max_sample_rate")


class DecodeGuard:
    """Counts what one request decodes and rejects what exceeds a limit.

    Args:
        limits: bounds on what decoding may cost.
    """

    def __init__(self, limits: DecodeLimits) -> None:
        self.limits = limits
        self._decoded_bytes = 0

    def check_layout(self, sample_rate: int, channels: int) -> None:
        """Reject sample rates and channel counts outside the limits.

        Args:
            sample_rate: sample rate of the file, Hz.
            channels: number of channels.

        Raises:
            UnsupportedAudioError: the sample rate or number of channels is outside the limits.
        """
        limits = self.limits
        if not limits.min_sample_rate <= sample_rate <= limits.max_sample_rate:
            raise UnsupportedAudioError(
                f"the sample rate is {sample_rate} Hz, limits are "
                f"{limits.min_sample_rate} to {limits.max_sample_rate} Hz; resample the file"
            )
        if not 1 <= channels <= limits.max_channels:
            raise UnsupportedAudioError(
                f"the audio has {channels} channels, limit is {limits.max_channels}; mix it down"
            )

    def check_duration(self, duration_s: float) -> None:
        """Reject empty tracks and tracks longer than the limit.

        Args:
            duration_s: duration of the track, seconds.

        Raises:
            AudioDecodeError: the track has no audio.
            AudioTooLongError: the track is longer than the limit.
        """
        if duration_s <= 0:
            raise AudioDecodeError("the file holds no audio: 0 samples")
        if duration_s > self.limits.max_duration_s:
            raise AudioTooLongError(
                f"the audio is {_minutes(duration_s)}, limit is "
                f"{_minutes(self.limits.max_duration_s)}; shorten the file"
            )

    def count(self, n_frames: int, channels: int) -> None:
        """Count a block against the limit on decoded bytes, before it is decoded.

        Args:
            n_frames: frames of the block, one sample per channel each.
            channels: number of channels.

        Raises:
            AudioTooLongError: the request's decoded bytes exceed the limit.
        """
        self._decoded_bytes += 4 * n_frames * channels  # 4 bytes per float32
        if self._decoded_bytes > self.limits.max_decoded_bytes:
            raise AudioTooLongError(
                f"the audio decodes to more than {self.limits.max_decoded_bytes >> 20} MiB, "
                "the limit; shorten the file"
            )

    def inspect(self, block: npt.NDArray[np.float32]) -> int:
        """Reject non-finite or too large samples; return the number of clipped samples.

        Args:
            block: (frames, channels) float32, at least one sample.

        Raises:
            AudioDecodeError: samples that are not finite, or larger than `max_abs_sample`.
        """
        # A NaN or infinity becomes the maximum, so one pass covers every check.
        peak = float(np.abs(block).max())
        if not math.isfinite(peak):
            raise AudioDecodeError("the audio holds samples that are not finite numbers")
        if peak > self.limits.max_abs_sample:
            raise AudioDecodeError(
                f"samples reach {peak:.3g}, limit is {self.limits.max_abs_sample:g} "
                "(full scale is 1)"
            )
        if peak < float(np.float32(FULL_SCALE)):  # in float32, as the samples are compared
            return 0
        return int(np.count_nonzero(np.abs(block) >= FULL_SCALE))


def _minutes(duration_s: float) -> str:
    return f"{duration_s / 60:,.1f} min"
