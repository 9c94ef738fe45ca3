"""Request metrics of an ingress replica: Prometheus series through Ray, totals of /v1/stats.

Labels are codes, stages, the model's own genres and the names of API keys, never anything that a
caller sent. The meaning of each series is in docs/operation/observe.md; the dashboards in
configs/grafana/ are built from them.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any

import numpy as np
from ray.serve import metrics

from acoustic.postprocess.calibration import Calibration
from acoustic.prediction import Prediction
from deployments.http.keys import caller
from deployments.telemetry.drift import ConfidenceDrift

LATENCY_BOUNDARIES_MS = [5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000]
SET_SIZE_BOUNDARIES = [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 7.5, 10.5, 16.5]
"""Boundaries lie between the integers, because Prometheus interpolates within a bucket: the median
of sets of one genre is then 1 and not 0.5."""

CONFIDENCE_BOUNDARIES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
N_RECENT = 1000
"""Number of recent answers that the latency quantiles of /v1/stats cover."""


class RequestMetrics:
    """Counts the requests, answers and latencies of one ingress replica.

    Args:
        calibration: calibration of the model, the reference of the drift.
    """

    def __init__(self, calibration: Calibration) -> None:
        self._start_s = time.monotonic()
        self._codes: Counter[str] = Counter()
        self._genres: Counter[str] = Counter()
        self._n_cached = 0
        self._n_review = 0
        self._recent_ms: dict[str, deque[float]] = {}
        self._drift = ConfidenceDrift(calibration)
        self._series = _Series()

    def count_prediction(
        self, prediction: Prediction, total_ms: float, *, is_reference: bool = True
    ) -> None:
        """Record one answer.

        Args:
            prediction: answer that was returned.
            total_ms: time of the whole request, in ms.
            is_reference: whether its confidence may be compared with the calibration: an answer
                of the default model about its own genres.
        """
        self._count("ok")
        self._genres[prediction.top_genre] += 1
        self._n_cached += prediction.cached
        self._n_review += prediction.needs_review
        if is_reference:
            self._drift.add(prediction.confidence, len(prediction.segments))
        stages_ms = {**prediction.timings_ms, "total": total_ms}
        for stage, ms in stages_ms.items():
            self._recent_ms.setdefault(stage, deque(maxlen=N_RECENT)).append(ms)
        self._series.count(prediction, stages_ms, self._drift.value())

    def count_error(self, code: str) -> None:
        """Record one failed request by its error code."""
        self._count(code)

    def to_dict(self) -> dict[str, Any]:
        """Totals since the replica started and latency quantiles of its recent answers."""
        n_ok = self._codes["ok"]
        drift = self._drift.value()
        return {
            "uptime_s": round(time.monotonic() - self._start_s, 1),
            "requests": dict(self._codes),
            "cache_hit_ratio": round(self._n_cached / n_ok, 4) if n_ok else None,
            "review_ratio": round(self._n_review / n_ok, 4) if n_ok else None,
            "confidence_drift": None if drift is None else round(drift, 4),
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
        self._series.requests.inc(tags={"code": code, "key": caller.get()})


class _Series:
    """The Prometheus series of an ingress replica."""

    def __init__(self) -> None:
        self.requests = metrics.Counter(
            "acousticsense_requests", "Classified files by outcome.", tag_keys=("code", "key")
        )
        self._latency = metrics.Histogram(
            "acousticsense_stage_latency_ms",
            "Time per stage and in total.",
            boundaries=LATENCY_BOUNDARIES_MS,
            tag_keys=("stage",),
        )
        self._answers = metrics.Counter(
            "acousticsense_answers", "Answers by genre.", tag_keys=("genre",)
        )
        self._cache_hits = metrics.Counter(
            "acousticsense_cache_hits", "Answers that came from a cache, or whose features did."
        )
        self._reviews = metrics.Counter(
            "acousticsense_reviews", "Answers flagged for review by a person."
        )
        self._reasons = metrics.Counter(
            "acousticsense_reasons", "Reasons given, by code.", tag_keys=("reason",)
        )
        self._set_size = metrics.Histogram(
            "acousticsense_prediction_set_size",
            "Genres in the prediction set.",
            boundaries=SET_SIZE_BOUNDARIES,
        )
        self._confidence = metrics.Histogram(
            "acousticsense_confidence",
            "Calibrated probability of the answered genre.",
            boundaries=CONFIDENCE_BOUNDARIES,
        )
        self._drift = metrics.Gauge(
            "acousticsense_confidence_drift",
            "Population stability index of recent confidences against the calibration's.",
        )

    def count(
        self, prediction: Prediction, stages_ms: dict[str, float], drift: float | None
    ) -> None:
        for stage, ms in stages_ms.items():
            self._latency.observe(ms, tags={"stage": stage})
        self._answers.inc(tags={"genre": prediction.top_genre})
        self._confidence.observe(prediction.confidence)
        if prediction.prediction_set is not None:
            self._set_size.observe(len(prediction.prediction_set.genres))
        if prediction.cached:
            self._cache_hits.inc()
        if prediction.needs_review:
            self._reviews.inc()
        for reason in prediction.reasons:
            self._reasons.inc(tags={"reason": reason.code})
        if drift is not None:
            self._drift.set(drift)
