"""Sampling of traces: a share is kept, and each kept trace is complete."""

from __future__ import annotations

import numpy as np
import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanContext

from acoustic.errors import ConfigError
from deployments.telemetry import tracing
from deployments.telemetry.tracing import TraceSampler


class Kept(SpanProcessor):
    def __init__(self) -> None:
        self.ids: list[int] = []

    def on_end(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        assert context is not None
        self.ids.append(context.trace_id)


def spans(n_traces: int, n_spans: int) -> list[ReadableSpan]:
    rng = np.random.default_rng(0)
    ids = [int.from_bytes(rng.bytes(16), "big") for _ in range(n_traces)]
    return [
        ReadableSpan("stage", context=SpanContext(trace_id, span_id + 1, is_remote=False))
        for trace_id in ids
        for span_id in range(n_spans)
    ]


@pytest.mark.parametrize(("ratio", "low", "high"), [(0.0, 0, 0), (0.25, 40, 90), (1.0, 250, 250)])
def test_a_share_of_the_traces_is_kept_whole(ratio: float, low: int, high: int) -> None:
    kept = Kept()
    share = TraceSampler(kept, ratio)
    for span in spans(250, 3):
        share.on_end(span)
    assert low <= len(set(kept.ids)) <= high
    assert all(kept.ids.count(each) == 3 for each in set(kept.ids))


@pytest.mark.parametrize("wrong", ["", "two", "-0.1", "1.1", "nan"])
def test_a_wrong_share_is_an_error(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv(tracing.RATIO_VARIABLE, wrong)
    with pytest.raises(ConfigError, match="must be a number from 0 to 1"):
        tracing._ratio()
