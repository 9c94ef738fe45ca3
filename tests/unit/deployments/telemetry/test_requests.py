"""Request metrics: totals, quantiles and series, with a fake of Ray's metrics."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.example import example_wav
from acoustic.pipeline import Pipeline
from acoustic.postprocess.calibration import load_calibration
from acoustic.prediction import Prediction, PredictionSet, Reason
from deployments.http.keys import caller
from deployments.telemetry import requests
from deployments.telemetry.drift import MIN_ANSWERS
from deployments.telemetry.requests import N_RECENT, RequestMetrics
from tests.support.series import Recorded


@pytest.fixture
def series(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    found = Recorded()
    monkeypatch.setattr(requests, "metrics", found)
    return found


@pytest.fixture
def metrics(series: Recorded, tiny_checkpoint: Path) -> RequestMetrics:
    return RequestMetrics(load_calibration(CheckpointFolder.open(tiny_checkpoint)))


@pytest.fixture(scope="module")
def prediction(tiny_checkpoint: Path) -> Prediction:
    found = Pipeline.from_folder(tiny_checkpoint).classify(example_wav(30))
    return replace(
        found, reasons=(), needs_review=False, timings_ms={"decode": 4.0, "inference": 8.0}
    )


def reason(code: str) -> Reason:
    return Reason(code=code, value=0.1, threshold=0.2, message="look at it")


def test_before_any_request_nothing_is_claimed(metrics: RequestMetrics) -> None:
    totals = metrics.to_dict()
    assert totals.pop("uptime_s") >= 0
    assert totals == {
        "requests": {}, "cache_hit_ratio": None, "review_ratio": None, "confidence_drift": None,
        "genres": {}, "latency_ms": {},
    }  # fmt: skip


def test_totals_count_answers_and_errors(metrics: RequestMetrics, prediction: Prediction) -> None:
    for genre in ("Jazz", "Rock", "Rock", "Rock"):
        metrics.count_prediction(replace(prediction, top_genre=genre), 20.0)
    metrics.count_prediction(replace(prediction, top_genre="Pop", cached=True), 20.0)
    metrics.count_prediction(replace(prediction, top_genre="Pop", needs_review=True), 20.0)
    for code in ("overloaded", "audio_too_short", "overloaded"):
        metrics.count_error(code)
    totals = metrics.to_dict()
    assert totals["requests"] == {"ok": 6, "overloaded": 2, "audio_too_short": 1}
    assert list(totals["genres"].items()) == [("Rock", 3), ("Pop", 2), ("Jazz", 1)]
    assert totals["cache_hit_ratio"] == totals["review_ratio"] == round(1 / 6, 4)
    assert json.loads(json.dumps(totals, allow_nan=False)) == totals


def test_errors_alone_give_no_ratio(metrics: RequestMetrics) -> None:
    metrics.count_error("overloaded")
    assert metrics.to_dict()["cache_hit_ratio"] is None


def test_quantiles_are_those_of_recent_answers(
    metrics: RequestMetrics, prediction: Prediction
) -> None:
    metrics.count_prediction(replace(prediction, timings_ms={"decode": 1e6}), 1e6)
    for i in range(N_RECENT):
        metrics.count_prediction(replace(prediction, timings_ms={"decode": 1.0}), float(i + 1))
    latency_ms = metrics.to_dict()["latency_ms"]
    assert latency_ms["decode"] == {"p50": 1.0, "p95": 1.0}, "the first answer is forgotten"
    assert latency_ms["total"]["p50"] == pytest.approx(N_RECENT / 2, abs=1)
    assert latency_ms["total"]["p95"] == pytest.approx(0.95 * N_RECENT, abs=1)


def test_an_answer_is_recorded_in_every_series(
    metrics: RequestMetrics, series: Recorded, prediction: Prediction
) -> None:
    found = replace(
        prediction, top_genre="Jazz", confidence=0.75, cached=True, needs_review=True,
        prediction_set=PredictionSet(coverage=0.9, genres=("Jazz", "Blues")),
        reasons=(reason("CLOSE_RIVAL"), reason("NARROW_BAND")),
    )  # fmt: skip
    metrics.count_prediction(found, 20.0)
    assert series.labels("requests") == [("ok", "")]
    assert series.labels("answers") == [("Jazz",)]
    assert series.of("confidence") == [0.75]
    assert series.of("prediction_set_size") == [2]
    assert series.labels("reasons") == [("CLOSE_RIVAL",), ("NARROW_BAND",)]
    assert series.of("cache_hits") == series.of("reviews") == [1.0]
    latency = dict(zip(series.labels("stage_latency_ms"), series.of("stage_latency_ms"),
                       strict=True))  # fmt: skip
    assert latency == {("decode",): 4.0, ("inference",): 8.0, ("total",): 20.0}


def test_what_an_answer_does_not_have_is_not_recorded(
    metrics: RequestMetrics, series: Recorded, prediction: Prediction
) -> None:
    metrics.count_prediction(replace(prediction, prediction_set=None), 20.0)
    for name in ("prediction_set_size", "reasons", "cache_hits", "reviews", "confidence_drift"):
        assert series.of(name) == [], name


def test_an_error_is_recorded_by_its_code_and_key_only(
    metrics: RequestMetrics, series: Recorded
) -> None:
    token = caller.set("studio")
    metrics.count_error("silent_audio")
    caller.reset(token)
    assert dict(series.values) == {"acousticsense_requests": [(1.0, ("silent_audio", "studio"))]}


def test_the_drift_appears_with_enough_answers(
    metrics: RequestMetrics, series: Recorded, prediction: Prediction
) -> None:
    for _ in range(MIN_ANSWERS):
        assert metrics.to_dict()["confidence_drift"] is None
        metrics.count_prediction(prediction, 20.0)
    drift = metrics.to_dict()["confidence_drift"]
    assert drift > 0.25, "always the same confidence is not the calibration's distribution"
    assert series.of("confidence_drift") == [pytest.approx(drift, abs=1e-4)]


def test_no_label_holds_what_a_caller_sent(
    metrics: RequestMetrics, series: Recorded, prediction: Prediction
) -> None:
    metrics.count_prediction(replace(prediction, file="secret.mp3", format="SECRET"), 20.0)
    assert "secret" not in str(dict(series.values)).lower()


@pytest.mark.parametrize("name", ["stage_latency_ms", "prediction_set_size", "confidence"])
def test_boundaries_rise(metrics: RequestMetrics, series: Recorded, name: str) -> None:
    boundaries = series.boundaries[f"acousticsense_{name}"]
    assert boundaries == sorted(set(boundaries))
    assert boundaries[0] > 0, "Ray rejects other boundaries"
