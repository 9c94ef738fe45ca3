"""Plans which seconds of a track are decoded: windows spread evenly over it (smart crop).

A window has the model's own input length. Windows are spread evenly over the track, so that an
intro never decides the answer alone; they overlap by two thirds at most, because evaluating the
same audio twice adds no information.

Effort `auto` evaluates the windows of `thorough` in rounds: each round is spread over the whole
track, and the windows of all rounds together are those of `thorough`.

Source: the guide's section 3.1, which decodes the middle 30 s and keeps 2.6 s of them.
"""

from __future__ import annotations

import math

from acoustic.request import Effort
from acoustic.types import Segment

WINDOWS_BY_EFFORT: dict[Effort, int] = {"fast": 1, "balanced": 3, "thorough": 10, "auto": 10}
"""Largest number of windows that are evaluated, by effort."""

AUTO_ROUNDS = (3, 3, 4)
"""Windows that each round of `auto` adds."""

MIN_HOP_RATIO = 1 / 3
"""Smallest distance between the starts of two windows, as a ratio of the window's length."""


def plan_segments(duration_s: float, window_s: float, n_windows: int) -> tuple[Segment, ...]:
    """Plan up to `n_windows` segments of one window each, evenly spread over a track.

    Args:
        duration_s: length of the track in seconds, positive.
        window_s: length of one window in seconds, positive.
        n_windows: number of windows wanted, at least 1.

    Returns:
        At least one segment, in order of time. A track shorter than a window is one segment.

    Raises:
        ValueError: an argument that is not positive.

    >>> [segment.start_s for segment in plan_segments(66.0, 6.0, 3)]
    [10.0, 30.0, 50.0]
    """
    if duration_s <= 0 or window_s <= 0 or n_windows < 1:
        raise ValueError(
            f"duration, window and number of windows must be positive, got {duration_s} s, "
            f"{window_s} s, {n_windows} windows"
        )
    if duration_s <= window_s:
        return (Segment(start_s=0.0, end_s=duration_s),)
    slack_s = duration_s - window_s
    n = min(n_windows, 1 + math.floor(slack_s / (window_s * MIN_HOP_RATIO)))
    # Starts are the centres of n equal parts of the slack: as much audio is left out before the
    # first window as after the last one.
    starts_s = [(i + 0.5) / n * slack_s for i in range(n)]
    return tuple(Segment(start_s=start, end_s=start + window_s) for start in starts_s)


def plan_rounds(
    duration_s: float, window_s: float, effort: Effort
) -> tuple[tuple[Segment, ...], ...]:
    """Plan the segments of each round; every effort except `auto` has a single round.

    Args:
        duration_s: length of the track in seconds, positive.
        window_s: length of one window in seconds, positive.
        effort: how many windows are evaluated.

    Returns:
        At least one round; each has at least one segment, in order of time.
    """
    segments = plan_segments(duration_s, window_s, WINDOWS_BY_EFFORT[effort])
    if effort != "auto":
        return (segments,)
    return tuple(tuple(segments[i] for i in each) for each in split_rounds(len(segments)))


def split_rounds(n_windows: int) -> tuple[tuple[int, ...], ...]:
    """Indices of the windows, out of n evenly spread ones, in each round of `auto`.

    >>> split_rounds(10)
    ((1, 5, 8), (2, 4, 7), (0, 3, 6, 9))
    """
    # Each round takes evenly spaced windows from those that earlier rounds left over, by the rule
    # of the centres of equal parts; a round for which nothing is left is dropped.
    left = list(range(n_windows))
    rounds = []
    for wanted in AUTO_ROUNDS:
        n = min(wanted, len(left))
        chosen = [left[math.floor((i + 0.5) / n * len(left))] for i in range(n)]
        left = [i for i in left if i not in chosen]
        if chosen:
            rounds.append(tuple(chosen))
    return tuple(rounds)
