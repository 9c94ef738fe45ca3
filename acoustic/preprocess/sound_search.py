"""Looks for sound in a track whose planned windows are all silent, and plans windows there.

Music, ten minutes of silence, a hidden track: the windows of a track are spread evenly and may all
lie in the silence. Before a track is called silent, short probes are decoded at even distances.

The cost is bounded: at most MAX_PROBES probes of PROBE_S and the decoder's run-up of 0.2 s each, 9
minutes of audio; a codec that cannot seek is decoded once from start to end.
Sound that lasts longer than the distance of two probes is always found: 1 s in tracks of up to
12 minutes, 1 / MAX_PROBES of longer ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from acoustic.preprocess.reader import AudioReader
from acoustic.preprocess.segments import MIN_HOP_RATIO
from acoustic.types import Segment

PROBE_S = 0.5
MIN_DISTANCE_S = 1.0
MAX_PROBES = 720


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundSound:
    """Where a track has sound.

    Attributes:
        segments: windows to evaluate, in order of time; empty if all probes are silent.
        n_probes: number of places that were decoded.
        silence_ratio: share of them that is silent, in [0, 1].
        loudest_db: level of the loudest one, dB full scale.
    """

    segments: tuple[Segment, ...]
    n_probes: int
    silence_ratio: float
    loudest_db: float


def find_sound(
    reader: AudioReader, window_s: float, n_windows: int, silence_db: float
) -> FoundSound:
    """Probe a track and plan windows where it has sound.

    Args:
        reader: the opened track.
        window_s: length of a window, seconds.
        n_windows: largest number of windows to plan.
        silence_db: level below which a probe is silent, dB full scale.

    Raises:
        InputError: the track cannot be decoded at a probe.
    """
    duration_s = reader.info.duration_s or 0.0
    distance_s = max(MIN_DISTANCE_S, duration_s / MAX_PROBES)
    n_probes = max(1, math.floor(duration_s / distance_s))
    centres_s, loudest_db = [], -math.inf
    for i in range(n_probes):
        centre_s = (i + 0.5) / n_probes * duration_s
        start_s = max(0.0, centre_s - PROBE_S / 2)
        waveform = reader.read(Segment(start_s=start_s, end_s=start_s + PROBE_S))
        # channels of opposite phase are sound too
        level_db = 10 * math.log10(max(waveform.channels_power, 1e-12))
        loudest_db = max(loudest_db, level_db)
        if level_db >= silence_db:
            centres_s.append(centre_s)
    starts_s = _starts(centres_s, duration_s / n_probes, duration_s, window_s)
    n = min(n_windows, len(starts_s))
    # the rule of the centres of equal parts, over the places with sound
    chosen = [starts_s[math.floor((i + 0.5) / n * len(starts_s))] for i in range(n)]
    return FoundSound(
        segments=tuple(
            Segment(start_s=each, end_s=min(each + window_s, duration_s)) for each in chosen
        ),
        n_probes=n_probes,
        silence_ratio=1 - len(centres_s) / n_probes,
        loudest_db=loudest_db,
    )


def _starts(
    centres_s: list[float], distance_s: float, duration_s: float, window_s: float
) -> list[float]:
    """Starts of windows that hold the probes with sound, and as little silence as possible."""
    starts_s: list[float] = []
    for begin_s, end_s in _stretches(centres_s, distance_s):
        for centre_s in (each for each in centres_s if begin_s <= each <= end_s):
            low_s, high_s = begin_s, end_s - window_s
            if high_s < low_s:  # a short stretch lies in the middle of its window
                low_s = high_s = (begin_s + end_s - window_s) / 2
            start_s = min(max(centre_s - window_s / 2, low_s), high_s)
            start_s = min(max(start_s, 0.0), max(0.0, duration_s - window_s))
            if not starts_s or start_s - starts_s[-1] >= window_s * MIN_HOP_RATIO:
                starts_s.append(start_s)
    return starts_s


def _stretches(centres_s: list[float], distance_s: float) -> list[tuple[float, float]]:
    """Begin and end of each stretch of neighbouring probes with sound, seconds."""
    stretches: list[tuple[float, float]] = []
    for centre_s in centres_s:
        if stretches and centre_s - stretches[-1][1] <= 1.5 * distance_s:
            stretches[-1] = (stretches[-1][0], centre_s)
        else:
            stretches.append((centre_s, centre_s))
    return stretches
