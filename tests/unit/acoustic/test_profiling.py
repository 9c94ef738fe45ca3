"""Timings of named steps: they add up, also where a step raises."""

from __future__ import annotations

import pytest

from acoustic.profiling import StageTimer


@pytest.fixture
def clock_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the timer reads; tests move it."""
    now = [100.0]
    monkeypatch.setattr("acoustic.profiling.time.perf_counter", lambda: now[0])
    return now


def test_times_of_one_name_add_up(clock_s: list[float]) -> None:
    timer = StageTimer()
    for name, seconds in (("mel", 0.25), ("decode", 1.0), ("mel", 0.5)):
        with timer.stage(name):
            clock_s[0] += seconds
    assert timer.timings_ms == {"mel": 750.0, "decode": 1000.0}


def test_the_time_between_two_steps_is_not_counted(clock_s: list[float]) -> None:
    timer = StageTimer()
    with timer.stage("mel"):
        clock_s[0] += 0.5
    clock_s[0] += 99.0
    assert timer.timings_ms == {"mel": 500.0}


def test_a_step_that_raises_is_timed_and_its_error_leaves(clock_s: list[float]) -> None:
    timer = StageTimer()

    def broken() -> None:
        with timer.stage("mel"):
            clock_s[0] += 0.125
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        broken()
    assert timer.timings_ms == {"mel": 125.0}


def test_an_outer_step_holds_the_time_of_an_inner_one(clock_s: list[float]) -> None:
    timer = StageTimer()
    with timer.stage("outer"):
        clock_s[0] += 1.0
        with timer.stage("inner"):
            clock_s[0] += 2.0
    assert timer.timings_ms == {"inner": 2000.0, "outer": 3000.0}
