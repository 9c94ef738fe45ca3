"""Simulation of replica autoscaling under bursts of requests: Serve's own policy and ours.

    python -m benchmarks.autoscaling

The decisions are the real ones: Serve's policy functions, with its delays, factors and averaging,
are called with contexts that a simulated deployment fills. The deployment is a queue of tracks,
first come first served, in front of replicas that take some time to start and then process a fixed
number of windows per second. Reports the waits, the replica-hours and the number of changes.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import yaml
from ray.serve import autoscaling_policy
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from benchmarks.document import markdown_table, write_section
from deployments.rendering.manifests import PATCH_FILE, PROFILES
from deployments.stages.autoscaling import WINDOWS, WindowsInFlight

STEP_S = 0.1
DURATION_S = 3600.0
WINDOWS_PER_S = 130.0
"""Throughput of one CPU replica of the default model: 7.5 ms per window (docs/evaluation.md)."""

START_S = 15.0
MAX_REPLICAS = 16
BASE_RATE, BURST_RATE, BURST_S, BURST_EVERY_S = 10.0, 90.0, 90.0, 600.0
EFFORTS = {"balanced only": (3, 3), "fast, then thorough": (1, 10)}
"""Name → windows per track in the first and in the second half of the hour."""

Policy = Callable[[AutoscalingContext], tuple[float, dict[str, Any]]]


@dataclass
class Deployment:
    """Simulated deployment: a queue of tracks, and replicas that run or start."""

    n_running: int = 1
    target: int = 1
    starting: list[float] = field(default_factory=list)
    queue: deque[list[float]] = field(default_factory=deque)  # arrival, windows left
    waits_s: list[float] = field(default_factory=list)
    replica_s: float = 0.0
    changes: list[int] = field(default_factory=list)

    def step(self, now_s: float, arrivals: int, windows: int) -> None:
        """Queue `arrivals` tracks of `windows` windows each, then process one step of STEP_S."""
        self.queue.extend([now_s, float(windows)] for _ in range(arrivals))
        self.n_running += sum(ready_s <= now_s for ready_s in self.starting)
        self.starting = [ready_s for ready_s in self.starting if ready_s > now_s]
        # All replicas together are one server: their windows of this step go to the oldest tracks.
        work = self.n_running * WINDOWS_PER_S * STEP_S
        while self.queue and work > 0:
            done = min(work, self.queue[0][1])
            work -= done
            self.queue[0][1] -= done
            # Not == 0: subtracting fractions of a window leaves a rounding error.
            if self.queue[0][1] <= 1e-9:
                self.waits_s.append(now_s + STEP_S - self.queue.popleft()[0])
        # A replica that starts holds its CPU already, so it counts.
        self.replica_s += (self.n_running + len(self.starting)) * STEP_S

    def scale(self, target: int, now_s: float) -> None:
        """Start or end replicas; when ending, replicas that still start are ended first."""
        if target == self.target:
            return
        self.changes.append(target - self.target)
        self.target = target
        more = target - self.n_running - len(self.starting)
        if more > 0:
            self.starting += [now_s + START_S] * more
        while self.n_running + len(self.starting) > target:
            if self.starting:
                self.starting.pop()
            else:
                self.n_running -= 1


def main() -> None:
    """Simulate, write the section, print JSON."""
    ours = _ours()
    # 64 windows in flight are 64 / 3 tracks at 3 windows per track: the same target in requests.
    plain = AutoscalingConfig(
        min_replicas=1, max_replicas=MAX_REPLICAS, target_ongoing_requests=64 / 3
    )
    quick = ours.model_copy(update={"target_ongoing_requests": 64 / 3})
    by_requests = autoscaling_policy._core_replica_queue_length_policy
    policies: dict[str, tuple[Policy, AutoscalingConfig]] = {
        "requests, Serve's delays": (by_requests, plain),
        "requests, our delays": (by_requests, quick),
        "windows in flight, our delays": (WindowsInFlight(target_windows=64), ours),
    }
    found: dict[str, dict[str, Any]] = {}
    for case, windows in EFFORTS.items():
        for name, (policy, config) in policies.items():
            found[f"{case}: {name}"] = simulate(policy, config, windows)
    rows = [
        [
            *key.split(": "), f"{row['p50_s']:.2f}", f"{row['p95_s']:.1f}", f"{row['max_s']:.0f}",
            f"{row['replica_hours']:.1f}", str(row["n_changes"]), str(row["n_reversals"]),
        ]
        for key, row in found.items()
    ]  # fmt: skip
    header = [
        "efforts", "policy", "median wait s", "95 of 100 s", "longest s", "replica hours",
        "changes", "reversals within a minute",
    ]  # fmt: skip
    write_section("Autoscaling", "python -m benchmarks.autoscaling", markdown_table(header, rows))
    print(json.dumps(found))


def _ours() -> AutoscalingConfig:
    """Autoscaling settings of Classify in the CPU profile."""
    patch = yaml.safe_load((PROFILES / "cpu" / PATCH_FILE).read_text())
    (application,) = yaml.safe_load(patch["spec"]["serveConfigV2"])["applications"]
    (values,) = (d for d in application["deployments"] if d["name"] == "Classify")
    return AutoscalingConfig(**values["autoscaling_config"])


def simulate(policy: Policy, config: AutoscalingConfig, windows: tuple[int, int]) -> dict[str, Any]:
    """Simulates one hour with a burst every ten minutes; returns waits, cost and changes."""
    rng = np.random.default_rng(0)
    wrapped = autoscaling_policy._apply_autoscaling_config(policy)
    deployment = Deployment()
    state: dict[str, Any] = {}
    seen: deque[tuple[float, float, float]] = deque()  # time, requests, windows
    times_s: list[float] = []
    clock = mock.Mock(return_value=0.0)
    # Serve's delays read the wall clock, so that is replaced by the simulated time.
    with mock.patch.object(autoscaling_policy.time, "time", clock):
        for now_s, rate, per_track in _traffic(windows):
            deployment.step(now_s, rng.poisson(rate * STEP_S), per_track)
            clock.return_value = now_s
            if _is_due(now_s, config.metrics_interval_s):
                in_flight = sum(left for _, left in deployment.queue)
                seen.append((now_s, len(deployment.queue), in_flight))
            while seen and seen[0][0] < now_s - config.look_back_period_s:
                seen.popleft()
            if not _is_due(now_s, 1.0) or not seen:
                continue
            desired, state = wrapped(_context(deployment, seen, config, state))
            before = deployment.target
            deployment.scale(min(max(desired, config.min_replicas), config.max_replicas), now_s)
            if deployment.target != before:
                times_s.append(now_s)
    return _summary(deployment, times_s)


def _traffic(windows: tuple[int, int]) -> Iterator[tuple[float, float, int]]:
    for i in range(round(DURATION_S / STEP_S)):
        now_s = i * STEP_S
        is_burst = now_s % BURST_EVERY_S >= BURST_EVERY_S - BURST_S
        per_track = windows[0] if now_s < DURATION_S / 2 else windows[1]
        # The load in windows per second is the same for every effort: more windows, fewer tracks.
        yield now_s, (BURST_RATE if is_burst else BASE_RATE) * 3 / per_track, per_track


def _is_due(now_s: float, every_s: float) -> bool:
    # True where the last step crosses a multiple of every_s; 1e-9 absorbs the rounding of i × 0.1.
    return math.floor(now_s / every_s + 1e-9) > math.floor((now_s - STEP_S) / every_s + 1e-9)


def _context(
    deployment: Deployment,
    seen: deque[tuple[float, float, float]],
    config: AutoscalingConfig,
    state: dict[str, Any],
) -> AutoscalingContext:
    means = np.mean(np.array(seen)[:, 1:], axis=0)
    return AutoscalingContext(
        deployment_id=None, deployment_name="Classify", app_name="simulated",
        current_num_replicas=deployment.n_running, target_num_replicas=deployment.target,
        running_replicas=[], total_num_requests=float(means[0]), total_queued_requests=0.0,
        aggregated_metrics={WINDOWS: {"all": float(means[1])}},
        raw_metrics=None, capacity_adjusted_min_replicas=config.min_replicas,
        capacity_adjusted_max_replicas=config.max_replicas, policy_state=state,
        last_scale_up_time=None, last_scale_down_time=None, current_time=None, config=config,
    )  # fmt: skip


def _summary(deployment: Deployment, times_s: list[float]) -> dict[str, Any]:
    signs = np.sign(deployment.changes)
    gaps_s = np.diff(times_s)
    # A reversal: up follows down, or down follows up, within 60 s.
    return {
        "p50_s": round(float(np.quantile(deployment.waits_s, 0.5)), 3),
        "p95_s": round(float(np.quantile(deployment.waits_s, 0.95)), 2),
        "max_s": round(float(max(deployment.waits_s)), 1),
        "replica_hours": round(deployment.replica_s / 3600, 2),
        "n_changes": len(signs),
        "n_reversals": int(np.sum((signs[1:] != signs[:-1]) & (gaps_s < 60))),
    }


if __name__ == "__main__":
    main()
