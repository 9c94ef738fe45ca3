"""Replicas that the autoscaling policies request, from the contexts that Serve would pass."""

from __future__ import annotations

import pytest
from ray.serve.config import AutoscalingContext

from deployments.stages.autoscaling import CPU_SHARE, WINDOWS, QueueAndCpu, WindowsInFlight


def context(
    total: float, queued: float, metrics: dict[str, dict[str, float]] | None = None
) -> AutoscalingContext:
    return AutoscalingContext(
        deployment_id=None, deployment_name="Classify", app_name="acousticsense",  # type: ignore[arg-type]
        current_num_replicas=1, target_num_replicas=1, running_replicas=[],
        total_num_requests=total, total_queued_requests=queued, aggregated_metrics=metrics,  # type: ignore[arg-type]
        raw_metrics=None, capacity_adjusted_min_replicas=0, capacity_adjusted_max_replicas=9,
        policy_state={}, last_scale_up_time=None, last_scale_down_time=None, current_time=None,
        config=None,
    )  # fmt: skip


def test_windows_count_and_not_tracks() -> None:
    policy = WindowsInFlight(target_windows=64)
    fast = context(64, 0, {WINDOWS: {"a": 32.0, "b": 32.0}})
    thorough = context(64, 0, {WINDOWS: {"a": 320.0, "b": 320.0}})
    assert policy(fast) == (1.0, {})
    assert policy(thorough) == (10.0, {})


def test_queued_tracks_count_as_those_that_are_seen() -> None:
    policy = WindowsInFlight(target_windows=50)
    desired, _ = policy(context(30, 20, {WINDOWS: {"a": 100.0}}))
    assert desired == pytest.approx((100 + 20 * 10) / 50)


@pytest.mark.parametrize("metrics", [None, {}, {WINDOWS: {}}])
def test_before_any_record_a_track_has_the_usual_windows(
    metrics: dict[str, dict[str, float]] | None,
) -> None:
    desired, _ = WindowsInFlight(target_windows=30, windows_per_track=3)(context(50, 50, metrics))
    assert desired == pytest.approx(5.0)


def test_nothing_in_flight_needs_nothing() -> None:
    assert WindowsInFlight(target_windows=30)(context(0, 0, {WINDOWS: {"a": 0.0}}))[0] == 0
    assert QueueAndCpu(target_requests=4)(context(0, 0, {CPU_SHARE: {"a": 0.0}}))[0] == 0


@pytest.mark.parametrize(
    ("total", "shares", "expected"),
    [(8, [0.1, 0.1], 2.0), (2, [1.0, 1.0], 2 / 0.7), (40, [1.0, 1.0], 10.0), (0, [0.35], 0.5)],
)
def test_queue_or_cpu_whichever_asks_for_more(
    total: float, shares: list[float], expected: float
) -> None:
    by_replica = {str(i): share for i, share in enumerate(shares)}
    desired, _ = QueueAndCpu(target_requests=4)(context(total, 0, {CPU_SHARE: by_replica}))
    assert desired == pytest.approx(expected)


@pytest.mark.parametrize("wrong", [0, -1])
def test_targets_are_positive(wrong: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        WindowsInFlight(target_windows=wrong)
    with pytest.raises(ValueError, match="must be positive"):
        QueueAndCpu(target_requests=wrong)
