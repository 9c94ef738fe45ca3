"""Smart crop: which seconds of a track are worth decoding.

A window is the model's own input length. Windows are spread evenly over the track, so that an
intro never speaks for the whole song; they overlap by two thirds at most, because a window that
was heard already tells nothing new.

Effort `auto` has the windows of `thorough`, in rounds: each round is spread over the whole track,
and the windows of all rounds together are those of `thorough`.

Source: the guide's section 3.1, which decodes the middle 30 s and keeps 2.6 s of them.
"""

from __future__ import annotations

import math

from acoustic.types import Effort, Segment

WINDOWS_BY_EFFORT: dict[Effort, int] = {"fast": 1, "balanced": 3, "thorough": 10, "auto": 10}
"""The most that is heard."""

AUTO_ROUNDS = (3, 3, 4)
"""Windows that each round of `auto` adds."""

MIN_HOP_RATIO = 1 / 3
"""Smallest distance between the starts of two windows, over the window's length."""


def plan_segments(duration_s: float, window_s: float, n_windows: int) -> tuple[Segment, ...]:
    """Up to `n_windows` segments of one window each, evenly spread.

    Args:
        duration_s: length of the track, positive.
        window_s: length of one window, positive.
        n_windows: how many are wanted, at least 1.

    Returns:
        At least one segment, in order. A track shorter than a window is one segment, whole.

    Raises:
        ValueError: an argument that is not positive.

    >>> [segment.start_s for segment in plan_segments(66.0, 6.0, 3)]
    [10.0, 30.0, 50.0]
    """
    if duration_s <= 0 or window_s <= 0 or n_windows < 1:
        raise ValueError(f"not positive: {duration_s} s, {window_s} s, {n_windows} windows")
    if duration_s <= window_s:
        return (Segment(start_s=0.0, end_s=duration_s),)
    slack_s = duration_s - window_s
    n = min(n_windows, 1 + math.floor(slack_s / (window_s * MIN_HOP_RATIO)))
    starts_s = [(i + 0.5) / n * slack_s for i in range(n)]
    return tuple(Segment(start_s=start, end_s=start + window_s) for start in starts_s)


def plan_rounds(
    duration_s: float, window_s: float, effort: Effort
) -> tuple[tuple[Segment, ...], ...]:
    """The segments of each round, one round for every effort but `auto`.

    Args:
        duration_s: length of the track, positive.
        window_s: length of one window, positive.
        effort: how much is heard.

    Returns:
        At least one round, each with at least one segment, in the order of time.
    """
    segments = plan_segments(duration_s, window_s, WINDOWS_BY_EFFORT[effort])
    if effort != "auto":
        return (segments,)
    return tuple(tuple(segments[i] for i in each) for each in split_rounds(len(segments)))


def split_rounds(n_windows: int) -> tuple[tuple[int, ...], ...]:
    """Which of n evenly spread windows each round of `auto` hears.

    >>> split_rounds(10)
    ((1, 5, 8), (2, 4, 7), (0, 3, 6, 9))
    """
    left = list(range(n_windows))
    rounds = []
    for wanted in AUTO_ROUNDS:
        n = min(wanted, len(left))
        chosen = [left[math.floor((i + 0.5) / n * len(left))] for i in range(n)]
        left = [i for i in left if i not in chosen]
        if chosen:
            rounds.append(tuple(chosen))
    return tuple(rounds)
