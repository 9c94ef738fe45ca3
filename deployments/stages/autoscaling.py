"""Autoscaling policies for Serve: how many replicas the current load needs.

Serve counts requests. That suits neither of our stages: a track has 1 to 10 windows, so the same
number of requests at the model can be ten times the work; and a decoding replica that is always
busy with a short queue is at its limit, which its queue does not show. Serve applies delays,
factors and bounds to what a policy returns. `python -m benchmarks.autoscaling` compares policies.
"""

from __future__ import annotations

import time

import ray
from ray.serve.config import AutoscalingContext

WINDOWS = "windows"
CPU_SHARE = "cpu_share"

Decision = tuple[float, dict[str, object]]


class WindowsInFlight:
    """Scales so that each replica has `target_windows` in flight: waiting or in the model.

    Args:
        target_windows: windows in flight per replica; twice the largest batch keeps the device
            busy while the next batch forms.
        windows_per_track: mean number of windows per track, assumed while no replica has any.
    """

    def __init__(self, target_windows: float, windows_per_track: float = 3.0) -> None:
        if target_windows <= 0 or windows_per_track <= 0:
            raise ValueError("target_windows and windows_per_track must be positive")
        self._target = target_windows
        self._windows_per_track = windows_per_track

    def __call__(self, context: AutoscalingContext) -> Decision:
        """Desired number of replicas, not rounded, and an empty state."""
        seen = _total(context, WINDOWS)
        n_queued = float(context.total_queued_requests or 0.0)
        n_at_replicas = max(0.0, float(context.total_num_requests) - n_queued)
        # A queued request does not show its windows: assume the mean of those at the replicas.
        per_track = seen / n_at_replicas if seen and n_at_replicas >= 1 else self._windows_per_track
        return (seen + n_queued * per_track) / self._target, {}


class QueueAndCpu:
    """Scales by the number of requests or by the CPU use, whichever needs more replicas.

    Args:
        target_requests: ongoing requests per replica.
        target_cpu_share: share of its reserved CPUs that a replica should have busy.
    """

    def __init__(self, target_requests: float, target_cpu_share: float = 0.7) -> None:
        if target_requests <= 0 or target_cpu_share <= 0:
            raise ValueError("target_requests and target_cpu_share must be positive")
        self._target_requests = target_requests
        self._target_share = target_cpu_share

    def __call__(self, context: AutoscalingContext) -> Decision:
        """Desired number of replicas, not rounded, and an empty state."""
        by_queue = float(context.total_num_requests) / self._target_requests
        return max(by_queue, _total(context, CPU_SHARE) / self._target_share), {}


class CpuShare:
    """Share of its reserved CPUs that this process has used since the last call."""

    def __init__(self) -> None:
        reserved = ray.get_runtime_context().get_assigned_resources().get("CPU", 1.0)
        self._reserved = max(float(reserved), 0.01)
        self._last_s, self._last_cpu_s = time.monotonic(), time.process_time()

    def since_last(self) -> float:
        """The share: 1 if all reserved CPUs were busy, above 1 if it used others as well."""
        now_s, cpu_s = time.monotonic(), time.process_time()
        share = (cpu_s - self._last_cpu_s) / max(now_s - self._last_s, 1e-3)
        self._last_s, self._last_cpu_s = now_s, cpu_s
        return share / self._reserved


def _total(context: AutoscalingContext, name: str) -> float:
    """Sum of a recorded number over all replicas; 0 before the first record."""
    by_replica = (context.aggregated_metrics or {}).get(name) or {}
    return float(sum(by_replica.values()))
