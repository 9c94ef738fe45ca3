"""Sound is found wherever it is, at a bounded cost."""

from __future__ import annotations

import numpy as np
import pytest

from acoustic.preprocess.sound_search import MAX_PROBES, PROBE_S, find_sound
from acoustic.preprocess.waveform import Waveform
from acoustic.types import AudioInfo, Segment

RATE = 1_000
WINDOW_S = 6.0
LIMIT_DB = -75.0


class Track:
    """A reader of a track that has sound in some stretches; counts the decoded seconds."""

    def __init__(self, duration_s: float, *sound: tuple[float, float]) -> None:
        self.info = AudioInfo(duration_s=duration_s, sample_rate=RATE, channels=1, format="WAV")
        self._sound = sound
        self.decoded_s = 0.0

    def read(self, segment: Segment, channel: int | None = None) -> Waveform:
        self.decoded_s += segment.end_s - segment.start_s
        times = np.arange(segment.start_s, segment.end_s, 1 / RATE)
        loud = np.any([(times >= a) & (times < b) for a, b in self._sound], axis=0)
        samples = np.where(loud, 0.1, 0.0).astype(np.float32)
        power = float(np.mean(samples**2))
        return Waveform(samples=samples, sample_rate=RATE, clipping_ratio=0.0, channels_power=power)


@pytest.mark.parametrize(
    ("duration_s", "sound"),
    [(660.0, [(0.0, 30.0), (630.0, 660.0)]), (300.0, [(123.0, 124.0)]), (14_400.0, [(0.0, 60.0)])],
)
def test_windows_lie_where_the_sound_is(
    duration_s: float, sound: list[tuple[float, float]]
) -> None:
    found = find_sound(Track(duration_s, *sound), WINDOW_S, 3, LIMIT_DB)
    assert found.segments
    for segment in found.segments:
        assert any(a < segment.end_s and segment.start_s < b for a, b in sound)
        assert 0 <= segment.start_s < segment.end_s <= duration_s
    share = sum(b - a for a, b in sound) / duration_s
    assert found.silence_ratio == pytest.approx(1 - share, abs=0.01)


def test_both_ends_are_evaluated() -> None:
    found = find_sound(Track(660.0, (0.0, 30.0), (630.0, 660.0)), WINDOW_S, 10, LIMIT_DB)
    starts_s = [each.start_s for each in found.segments]
    assert len(starts_s) == 10
    assert starts_s == sorted(starts_s)
    assert sum(start_s < 30 for start_s in starts_s) == 5


def test_silence_has_no_windows_and_says_how_loud_it_is() -> None:
    found = find_sound(Track(600.0), WINDOW_S, 3, LIMIT_DB)
    assert found.segments == ()
    assert found.silence_ratio == 1
    assert found.loudest_db == pytest.approx(-120)


@pytest.mark.parametrize("duration_s", [10.0, 600.0, 4 * 3600.0])
def test_the_cost_is_bounded(duration_s: float) -> None:
    track = Track(duration_s)
    found = find_sound(track, WINDOW_S, 3, LIMIT_DB)
    assert found.n_probes <= MAX_PROBES
    assert track.decoded_s <= min(MAX_PROBES * PROBE_S, duration_s) + 1e-6
