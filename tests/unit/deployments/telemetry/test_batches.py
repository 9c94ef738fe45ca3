"""Batch metrics: one call of the model in windows and milliseconds."""

from __future__ import annotations

import pytest

from deployments.telemetry import batches
from deployments.telemetry.batch_facts import BatchFacts
from deployments.telemetry.batches import BatchMetrics
from tests.support.series import Recorded


@pytest.fixture
def series(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    found = Recorded()
    monkeypatch.setattr(batches, "metrics", found)
    return found


def test_a_call_is_recorded_in_windows_and_milliseconds(series: Recorded) -> None:
    facts = BatchFacts(n_items=3, size=9, waits_s=(0.0, 0.25, 0.002), run_s=0.5)
    BatchMetrics().count(facts)
    assert series.of("batch_windows") == [9], "windows, not tracks"
    assert series.of("model_call_ms") == [500.0]
    assert series.of("coalescing_wait_ms") == [0.0, 250.0, 2.0], "one wait per track"


def test_calls_add_up(series: Recorded) -> None:
    metrics = BatchMetrics()
    for size in (1, 30):
        metrics.count(BatchFacts(n_items=1, size=size, waits_s=(0.001,), run_s=0.01))
    assert series.of("batch_windows") == [1, 30]
    assert len(series.of("coalescing_wait_ms")) == len(series.of("model_call_ms")) == 2


def test_boundaries_rise_from_above_zero(series: Recorded) -> None:
    BatchMetrics()
    assert len(series.boundaries) == 3
    for boundaries in series.boundaries.values():
        assert boundaries == sorted(set(boundaries))
        assert boundaries[0] > 0
