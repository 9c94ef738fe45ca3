"""Mixes the channels of a track down to mono without losing channels of opposite phase.

The mix is the average of the channels. Where they have opposite phase (a cable with crossed wires,
an editor's "invert") the average cancels them, and after a lossy codec it has only the codec's
errors. It is seen by comparing the average's power with the channels': in the full band, or in the
band below `waveform.LOW_BAND_HZ`.

The decision is one for all segments that are decoded together, so that they stay comparable: where
the channels cancel in one segment, the loudest channel is taken alone in all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from acoustic.preprocess.waveform import ChannelPowers, Waveform
from acoustic.types import Segment

CANCELLED_RATIO = 0.99
"""Share of power lost in the average, above which channels cancel: what is left is 20 dB below."""

SUSPICIOUS_LOSS = 0.15
"""Share lost above that of unrelated channels, 1 − 1 / C, from which on the channels are compared:
that takes another pass over the segments, which ordinary files need not pay for."""


class Read(Protocol):
    """Decodes one segment; see `reader.AudioReader.read`."""

    def __call__(
        self,
        segment: Segment,
        channel: int | None = None,
        powers: ChannelPowers | None = None,
    ) -> Waveform:
        """The segment's mono samples."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Segments as mono samples.

    Attributes:
        waveforms: samples of each segment.
        cancellation: largest share of a segment's power that the average of the channels lacks, in
            [0, 1]; above CANCELLED_RATIO the samples are those of one channel.
    """

    waveforms: list[Waveform]
    cancellation: float


def read_mono(read: Read, segments: Sequence[Segment], channels: int, silence_db: float) -> Decoded:
    """Decode segments as mono.

    Args:
        read: function that decodes a segment.
        segments: segments of one track.
        channels: number of channels of the track.
        silence_db: segments below this level, dB full scale, decide nothing.
    """
    mixed = [read(segment) for segment in segments]
    silence = 10 ** (silence_db / 10)
    lost = [each.cancellation for each in mixed if each.channels_power >= silence]
    cancellation = max(lost, default=0.0)
    suspicious = min(1 - 1 / channels + SUSPICIOUS_LOSS, CANCELLED_RATIO)
    if channels < 2 or cancellation <= suspicious:
        return Decoded(mixed, cancellation)
    powers = np.zeros(channels)
    for segment, mono in zip(segments, mixed, strict=True):
        if mono.channels_power < silence:
            continue
        found = ChannelPowers()
        read(segment, powers=found)
        powers[: found.full.channels.size] += found.full.channels
        if found.low.power >= silence:
            lost.append(found.low.lost)
    cancellation = max(lost)
    if cancellation <= CANCELLED_RATIO:
        return Decoded(mixed, cancellation)
    # channels of the same power to nine digits: the first of them
    loudest = int(np.argmax((powers / powers.max()).round(9)))
    return Decoded([read(segment, loudest) for segment in segments], cancellation)
