"""Counts and latencies: Prometheus series through Ray, and the totals of /v1/stats.

Labels are codes and stage names only, never anything that a caller sent.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any

import numpy as np
from ray.serve import metrics

from acoustic.prediction import Prediction

LATENCY_BOUNDARIES_MS = [5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000]
N_RECENT = 1000
"""Requests that the latency quantiles of /v1/stats look back on."""


class RequestMetrics:
    """What one ingress replica has seen."""

    def __init__(self) -> None:
        self._start_s = time.monotonic()
        self._codes: Counter[str] = Counter()
        self._genres: Counter[str] = Counter()
        self._n_cached = 0
        self._n_review = 0
        self._recent_ms: dict[str, deque[float]] = {}
        self._requests = metrics.Counter(
            "acousticsense_requests", "Classified files by outcome.", tag_keys=("code",)
        )
        self._latency = metrics.Histogram(
            "acousticsense_stage_latency_ms",
            "Time per stage, and in all.",
            boundaries=LATENCY_BOUNDARIES_MS,
            tag_keys=("stage",),
        )

    def count_prediction(self, prediction: Prediction, total_ms: float) -> None:
        """Count one answer."""
        self._count("ok")
        self._genres[prediction.predictions[0].genre] += 1
        self._n_cached += prediction.features.cached
        self._n_review += prediction.needs_review
        for stage, ms in {**prediction.timings_ms, "total": total_ms}.items():
            self._latency.observe(ms, tags={"stage": stage})
            self._recent_ms.setdefault(stage, deque(maxlen=N_RECENT)).append(ms)

    def count_error(self, code: str) -> None:
        """Count one failure by its code."""
        self._count(code)

    def to_dict(self) -> dict[str, Any]:
        """Totals since the replica's start, latencies of its recent answers."""
        n_ok = self._codes["ok"]
        return {
            "uptime_s": round(time.monotonic() - self._start_s, 1),
            "requests": dict(self._codes),
            "cache_hit_ratio": round(self._n_cached / n_ok, 4) if n_ok else None,
            "review_ratio": round(self._n_review / n_ok, 4) if n_ok else None,
            "genres": dict(self._genres.most_common()),
            "latency_ms": {
                stage: {
                    "p50": round(float(np.quantile(values, 0.5)), 2),
                    "p95": round(float(np.quantile(values, 0.95)), 2),
                }
                for stage, values in self._recent_ms.items()
            },
        }

    def _count(self, code: str) -> None:
        self._codes[code] += 1
        self._requests.inc(tags={"code": code})
