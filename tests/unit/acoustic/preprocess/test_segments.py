"""Choice of the segments of a track (smart crop) and of its rounds."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic.preprocess.segments import MIN_HOP_RATIO, plan_rounds, plan_segments, split_rounds

durations = st.floats(0.01, 20_000, allow_nan=False)


@given(duration_s=durations, window_s=st.floats(0.5, 30), n=st.integers(1, 20))
def test_segments_lie_in_the_track(duration_s: float, window_s: float, n: int) -> None:
    segments = plan_segments(duration_s, window_s, n)
    assert 1 <= len(segments) <= n
    for segment in segments:
        assert 0 <= segment.start_s < segment.end_s <= duration_s + 1e-6
        assert segment.end_s - segment.start_s == pytest.approx(min(window_s, duration_s))
    starts = [segment.start_s for segment in segments]
    assert all(b - a >= window_s * MIN_HOP_RATIO * 0.49 for a, b in pairwise(starts))


def test_one_window_is_the_middle() -> None:
    (segment,) = plan_segments(180.0, 6.0, 1)
    assert (segment.start_s + segment.end_s) / 2 == pytest.approx(90.0)


def test_windows_are_symmetric() -> None:
    segments = plan_segments(100.0, 6.0, 10)
    assert segments[0].start_s == pytest.approx(100.0 - segments[-1].end_s)
    assert len(segments) == 10


def test_a_short_track_is_one_segment() -> None:
    (segment,) = plan_segments(2.0, 6.0, 10)
    assert (segment.start_s, segment.end_s) == (0.0, 2.0)


def test_a_track_of_just_over_a_window_is_not_heard_ten_times() -> None:
    assert len(plan_segments(6.5, 6.0, 10)) == 1


@pytest.mark.parametrize("bad", [(0.0, 6.0, 1), (10.0, 0.0, 1), (10.0, 6.0, 0)])
def test_nonsense_is_a_programming_error(bad: tuple[float, float, int]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        plan_segments(*bad)


@given(duration_s=durations)
def test_the_rounds_of_auto_are_the_windows_of_thorough(duration_s: float) -> None:
    rounds = plan_rounds(duration_s, 6.0, "auto")
    evaluated = sorted((s for each in rounds for s in each), key=lambda s: s.start_s)
    assert tuple(evaluated) == plan_rounds(duration_s, 6.0, "thorough")[0]
    assert all(rounds)


def test_the_first_round_is_spread_over_the_track() -> None:
    first = plan_rounds(180.0, 6.0, "auto")[0]
    balanced = plan_rounds(180.0, 6.0, "balanced")[0]
    for mine, theirs in zip(first, balanced, strict=True):
        assert abs(mine.start_s - theirs.start_s) < 18
    assert [len(each) for each in split_rounds(10)] == [3, 3, 4]
    assert split_rounds(2) == ((0, 1),)
