"""Spans of every request to a collector of OpenTelemetry, through Ray Serve's own tracing.

Name it in the environment before Ray starts, on every node:

    RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH=deployments.tracing:to_collector
    RAY_SERVE_TRACING_SAMPLING_RATIO=1.0
    OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318
    OTEL_TRACES_SAMPLER_ARG=0.01

Serve's own ratio must be 1: below it every stage draws anew for itself, and traces come apart. Here
the trace's id decides, so all stages of a request keep or drop their spans alike. Needs the extra
tracing.
"""

from __future__ import annotations

import os

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor

RATIO_VARIABLE = "OTEL_TRACES_SAMPLER_ARG"
DEFAULT_RATIO = "0.01"
TRACE_ID_LIMIT = 1 << 64
"""The lower half of a trace's id is random."""


def to_collector() -> list[SpanProcessor]:
    """What Serve calls in every process that has spans.

    Raises:
        ConfigError: the extra is not installed, or the share is no number from 0 to 1.
    """
    from acoustic.errors import ConfigError

    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise ConfigError("tracing needs the extra acousticsense[tracing]") from error
    return [ShareOfTraces(BatchSpanProcessor(OTLPSpanExporter()), _ratio())]


class ShareOfTraces(SpanProcessor):
    """Passes on the spans of some traces, whole.

    Args:
        inner: gets them.
        ratio: of the traces, from 0 to 1.
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
        """Send what is left."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what is there."""
        return self._inner.force_flush(timeout_millis)


def _ratio() -> float:
    from acoustic.errors import ConfigError

    text = os.environ.get(RATIO_VARIABLE, DEFAULT_RATIO)
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise ConfigError(f"{RATIO_VARIABLE} is {text!r}, limits are 0 to 1")
    return ratio
