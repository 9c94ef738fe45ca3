"""What every decoder of stage 1 offers: the facts of a file, and any segment of it."""

from __future__ import annotations

from typing import Protocol

from acoustic.preprocess.waveform import ChannelPowers, Waveform
from acoustic.types import AudioInfo, Segment


class AudioReader(Protocol):
    """An opened audio file that decodes any segment on request."""

    info: AudioInfo

    def read(
        self,
        segment: Segment,
        channel: int | None = None,
        powers: ChannelPowers | None = None,
    ) -> Waveform:
        """Decode one segment, mixed down to mono at the file's own rate.

        Args:
            segment: part of the track, in seconds; audio past the end of the track is left out.
            channel: number of the channel that is taken alone, the last one where the file has
                fewer; None to average over all channels.
            powers: where the powers of each channel are added up; None where nobody needs them.

        Returns:
            The samples that exist, possibly fewer than the segment asks for.

        Raises:
            AudioDecodeError: undecodable data, or samples that are not finite or too large.
            AudioTooLongError: the request's decoded bytes would exceed the limit.
        """
