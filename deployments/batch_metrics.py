"""What a Classify replica has seen of its batches: Prometheus series through Ray.

Serve's own batch metrics end where `@serve.batch` hands over; the waiting for full batches comes
after that and is measured here.
"""

from __future__ import annotations

from ray.serve import metrics

from deployments.coalescer import BatchFacts

WINDOW_BOUNDARIES = [1, 2, 4, 8, 16, 32, 64, 128]
WAIT_BOUNDARIES_MS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 30_000]


class BatchMetrics:
    """The series of one replica."""

    def __init__(self) -> None:
        self._windows = metrics.Histogram(
            "acousticsense_batch_windows", "Windows per model call.", boundaries=WINDOW_BOUNDARIES
        )
        self._waits = metrics.Histogram(
            "acousticsense_coalescing_wait_ms",
            "From a track's arrival at the model to the start of its call.",
            boundaries=WAIT_BOUNDARIES_MS,
        )
        self._calls = metrics.Histogram(
            "acousticsense_model_call_ms", "One model call.", boundaries=WAIT_BOUNDARIES_MS
        )

    def count(self, facts: BatchFacts) -> None:
        """Count one model call."""
        self._windows.observe(facts.size)
        self._calls.observe(facts.run_s * 1e3)
        for wait_s in facts.waits_s:
            self._waits.observe(wait_s * 1e3)
