"""Exports request spans to an OpenTelemetry collector, through Ray Serve's own tracing.

Set these variables in the environment of every node before Ray starts:

    RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH=deployments.telemetry.tracing:to_collector
    RAY_SERVE_TRACING_SAMPLING_RATIO=1.0
    OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318
    OTEL_TRACES_SAMPLER_ARG=0.01

Serve's own ratio must be 1: below 1, every stage samples independently and traces are incomplete.
Here the trace id decides, so all stages of a request keep or drop their spans together. Needs the
extra acousticsense[tracing].
"""

from __future__ import annotations

import os

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor

RATIO_VARIABLE = "OTEL_TRACES_SAMPLER_ARG"
DEFAULT_RATIO = "0.01"
TRACE_ID_LIMIT = 1 << 64
"""Trace ids are compared by their lower 64 bits, which are random."""


def to_collector() -> list[SpanProcessor]:
    """Span processors for Serve, which calls this in every process that has spans.

    Raises:
        ConfigError: the extra is not installed, or the ratio is not a number from 0 to 1.
    """
    from acoustic.errors import ConfigError

    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise ConfigError("tracing needs the extra acousticsense[tracing]") from error
    return [TraceSampler(BatchSpanProcessor(OTLPSpanExporter()), _ratio())]


class TraceSampler(SpanProcessor):
    """Passes on all spans of a sampled share of the traces.

    Args:
        inner: span processor that receives the sampled spans.
        ratio: share of the traces that is kept, from 0 to 1.
    """

    def __init__(self, inner: SpanProcessor, ratio: float) -> None:
        self._inner = inner
        self._bound = round(ratio * TRACE_ID_LIMIT)

    def on_end(self, span: ReadableSpan) -> None:
        """Keep or drop a span by its trace's id."""
        context = span.get_span_context()
        if context is not None and context.trace_id % TRACE_ID_LIMIT < self._bound:
            self._inner.on_end(span)

    def shutdown(self) -> None:
        """Send the remaining spans and stop."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send the pending spans; returns whether that succeeded in time."""
        return self._inner.force_flush(timeout_millis)


def _ratio() -> float:
    from acoustic.errors import ConfigError

    text = os.environ.get(RATIO_VARIABLE, DEFAULT_RATIO)
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise ConfigError(f"{RATIO_VARIABLE} is {text!r}, must be a number from 0 to 1")
    return ratio
