"""Several recordings in one file, decoded as one track.

Each is opened by its own decoder; only the one that is read at the moment stays open. They may have
different sample rates and channels: a segment across a border gets the larger of both rates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from acoustic.errors import AudioDecodeError
from acoustic.preprocess.guard import DecodeGuard
from acoustic.preprocess.reader import AudioReader
from acoustic.preprocess.waveform import ChannelPowers, Waveform, resample
from acoustic.types import AudioInfo, Segment

Open = Callable[[], AudioReader]


class JoinedReader:
    """Recordings one after another, as one `AudioReader`.

    Args:
        openers: functions that open one recording each, at least two.
        guard: limits on the whole file.

    Attributes:
        info: facts of the track; rate and channels are the largest, the format the first one's.
        durations_s: length of each recording, seconds.

    Raises:
        InputError: a recording cannot be opened, or all together are too long.
    """

    def __init__(self, openers: Sequence[Open], guard: DecodeGuard) -> None:
        self._openers, self._guard = openers, guard
        self._starts_s: list[float] = []
        self._infos: list[AudioInfo] = []
        total_s = 0.0
        for i, each in enumerate(openers):
            try:
                info = each().info
            except AudioDecodeError as error:
                raise AudioDecodeError(
                    f"recording {i + 1} of {len(openers)} joined in the file, at {total_s:.1f} s, "
                    f"is not readable: {error.message}"
                ) from error
            self._infos.append(info)
            self._starts_s.append(total_s)
            total_s += info.duration_s or 0.0
            guard.check_duration(total_s)
        self.durations_s = tuple(info.duration_s or 0.0 for info in self._infos)
        self._current: tuple[int, AudioReader] | None = None
        self.info = AudioInfo(
            duration_s=total_s,
            sample_rate=max(info.sample_rate for info in self._infos),
            channels=max(info.channels for info in self._infos),
            format=self._infos[0].format,
        )

    def read(
        self,
        segment: Segment,
        channel: int | None = None,
        powers: ChannelPowers | None = None,
    ) -> Waveform:
        """Decode one segment at the largest rate in it; see `reader.AudioReader.read`."""
        found = [
            self._read_part(i, segment, channel, powers)
            for i, start_s in enumerate(self._starts_s)
            if start_s < segment.end_s
            and segment.start_s < start_s + (self._infos[i].duration_s or 0.0)
        ]
        rate = max((each.sample_rate for each in found), default=self.info.sample_rate)
        n_wanted = max(0, round((segment.end_s - segment.start_s) * rate))
        if not found:
            return Waveform(
                samples=np.zeros(0, np.float32), sample_rate=rate, clipping_ratio=0.0,
                channels_power=0.0,
            )  # fmt: skip
        sizes = np.array([max(1, each.samples.size) for each in found], float)
        weights = sizes / sizes.sum()
        samples = [resample(each, rate, self._guard.limits) for each in found]
        return Waveform(
            samples=np.concatenate(samples)[:n_wanted],
            sample_rate=rate,
            clipping_ratio=float(np.dot(weights, [each.clipping_ratio for each in found])),
            channels_power=float(np.dot(weights, [each.channels_power for each in found])),
        )

    def _read_part(
        self, i: int, segment: Segment, channel: int | None, powers: ChannelPowers | None
    ) -> Waveform:
        if self._current is None or self._current[0] != i:
            self._current = None  # the old one is closed before the next one opens
            self._current = (i, self._openers[i]())
        start_s, info = self._starts_s[i], self._infos[i]
        own = Segment(
            start_s=max(0.0, segment.start_s - start_s),
            end_s=min(segment.end_s - start_s, info.duration_s or 0.0),
        )
        return self._current[1].read(own, channel, powers)
