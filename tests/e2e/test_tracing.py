"""One request produces one trace over all stages at an OpenTelemetry collector."""

from __future__ import annotations

import gzip
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from acoustic.example import example_wav
from tests.e2e.conftest import free_port, start, stop

trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
STAGES = ("Ingress", "Preprocess", "Classify", "Postprocess")
TIMEOUT_S = 60.0


@pytest.fixture
def collector() -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """Port of a fake collector, and the (trace, span name) pairs that it received."""
    seen: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            request = trace_service.ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    seen.extend((span.trace_id.hex(), span.name) for span in scope.spans)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, seen
    server.shutdown()
    server.server_close()


def test_a_request_is_one_trace_through_all_stages(
    collector: tuple[int, list[tuple[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    collector_port, seen = collector
    exporter = "deployments.telemetry.tracing:to_collector"
    monkeypatch.setenv("RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH", exporter)
    monkeypatch.setenv("RAY_SERVE_TRACING_SAMPLING_RATIO", "1.0")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "1.0")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector_port}")
    port = free_port()
    command = [sys.executable, "-m", "acousticsense", "serve", "--port", str(port)]
    service = start(command, port, "or with made-up music")
    try:
        reply = httpx.post(
            f"{service.url}/v1/classify",
            content=example_wav(),
            headers={"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"},
            timeout=30,
        )
        assert reply.status_code == 200
        deadline_s, pause = time.monotonic() + TIMEOUT_S, threading.Event()
        while not all(_has(seen, stage) for stage in STAGES):
            assert time.monotonic() < deadline_s, sorted(set(seen))
            pause.wait(0.5)
    finally:
        stop(service)


def _has(seen: list[tuple[str, str]], stage: str) -> bool:
    return any(trace == TRACE_ID and stage in name for trace, name in seen)
