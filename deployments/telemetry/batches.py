"""Prometheus metrics of the batches of a Classify replica, exported through Ray.

Serve's own batch metrics end where `@serve.batch` hands a batch over; the wait in the coalescer
comes after that and is measured here.
"""

from __future__ import annotations

from ray.serve import metrics

from deployments.telemetry.batch_facts import BatchFacts

WINDOW_BOUNDARIES = [1, 2, 4, 8, 16, 32, 64, 128]
WAIT_BOUNDARIES_MS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 30_000]


class BatchMetrics:
    """Batch metrics of one Classify replica."""

    def __init__(self) -> None:
        self._windows = metrics.Histogram(
            "acousticsense_batch_windows", "Windows per model call.", boundaries=WINDOW_BOUNDARIES
        )
        self._waits = metrics.Histogram(
            "acousticsense_coalescing_wait_ms",
            "Wait of a track from its arrival at the replica to its model call, in ms.",
            boundaries=WAIT_BOUNDARIES_MS,
        )
        self._calls = metrics.Histogram(
            "acousticsense_model_call_ms", "Time of one model call.", boundaries=WAIT_BOUNDARIES_MS
        )

    def count(self, facts: BatchFacts) -> None:
        """Record one model call."""
        self._windows.observe(facts.size)
        self._calls.observe(facts.run_s * 1e3)
        for wait_s in facts.waits_s:
            self._waits.observe(wait_s * 1e3)
