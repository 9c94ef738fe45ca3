"""Series and log lines of the running service; dashboards and alerts use only exported series."""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
import yaml
from ray.serve.config import AutoscalingPolicy

from acoustic.example import example_wav
from deployments.rendering.dashboards import load_panels
from deployments.telemetry.drift import MIN_ANSWERS
from tests.conftest import ROOT
from tests.serve.conftest import Deploy

TIMEOUT_S = 60.0
METRIC = re.compile(r"\bray_[a-z0-9_]+")
GPU_ONLY = {"ray_acousticsense_gpu_busy_ratio", "ray_acousticsense_gpu_memory_bytes"}
"""Set by replicas with a GPU; tests/unit/deployments/telemetry/test_resources.py fakes one."""


def queries() -> list[str]:
    """Every PromQL expression of the dashboards and alerts."""
    panels = [panel for panels in load_panels().values() for panel in panels]
    rules = yaml.safe_load((ROOT / "k8s/components/monitoring/alerts.yaml").read_text())
    alerts = [rule["expr"] for group in rules["spec"]["groups"] for rule in group["rules"]]
    return [query for panel in panels for query in panel.queries] + alerts


def scrape() -> dict[str, list[str]]:
    """Name of a series → its lines in the metrics of all nodes."""
    series: dict[str, list[str]] = {}
    for node in ray.nodes():
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        for line in httpx.get(url, timeout=10, trust_env=False).text.splitlines():
            if line and not line.startswith("#"):
                series.setdefault(re.split(r"[{ ]", line, maxsplit=1)[0], []).append(line)
    return series


def wait_for(names: set[str]) -> dict[str, list[str]]:
    """Scrape until all these series are exported; fails with the missing names."""
    deadline_s, pause = time.monotonic() + TIMEOUT_S, threading.Event()
    while names - (found := scrape()).keys():
        assert time.monotonic() < deadline_s, f"not exported: {sorted(names - found.keys())}"
        pause.wait(1)
    return found


@pytest.fixture(scope="module")
def answered(deploy_once: Deploy) -> httpx.Client:
    """Client of a service that has answered every kind of request, enough for the drift series."""
    json_log = {"logging_config": {"encoding": "JSON"}}
    names = ("Ingress", "Preprocess", "Classify", "Postprocess")
    options: dict[str, dict[str, Any]] = {name: dict(json_log) for name in names}
    options["Postprocess"]["user_config"] = {}
    options["Classify"]["autoscaling_config"] = {
        "min_replicas": 1,
        "max_replicas": 1,
        "metrics_interval_s": 1,
        "look_back_period_s": 2,
        "policy": AutoscalingPolicy(
            policy_function="deployments.stages.autoscaling:WindowsInFlight",
            policy_kwargs={"target_windows": 64},
        ),
    }
    client = deploy_once(options=options)
    sound = example_wav()
    for _ in range(MIN_ANSWERS):
        assert client.post("/v1/classify", content=sound).status_code == 200
    assert client.post("/v1/classify", content=example_wav(1.5)).status_code == 200
    assert client.post("/v1/classify", content=b"no audio" * 9).status_code == 415
    return client


def test_every_query_names_series_that_the_service_exports(answered: httpx.Client) -> None:
    names = {name for query in queries() for name in METRIC.findall(query)} - GPU_ONLY
    assert len(names) > 15
    found = wait_for(names)
    codes = "".join(found["ray_acousticsense_requests_total"])
    assert 'code="ok"' in codes
    assert 'code="unsupported_audio"' in codes
    labels = {
        name
        for line in "".join(found["ray_acousticsense_answers_total"]).splitlines()
        for name in re.findall(r"(\w+)=", line)
    }
    assert "genre" in labels
    assert not labels & {"file", "uri", "request_id"}


def test_every_label_of_a_query_is_exported(answered: httpx.Client) -> None:
    found = wait_for({"ray_acousticsense_stage_latency_ms_bucket"})
    for query in queries():
        for name, matchers in re.findall(r"(ray_[a-z0-9_]+)\{([^}]*)\}", query):
            for label, value in re.findall(r'(\w+)\s*=\s*"([^"]+)"', matchers):
                lines = wait_for({name})[name]
                if label not in ("code", "error_code") or value == "ok":
                    assert any(f'{label}="{value}"' in line for line in lines), query
                else:
                    assert any(f'{label}="' in line for line in lines), query
    assert found


def test_log_lines_are_json_with_the_callers_request_id(answered: httpx.Client) -> None:
    reply = answered.post(
        "/v1/classify", content=example_wav(2.0), headers={"X-Request-ID": "of-a-test"}
    )
    assert reply.headers["x-request-id"] == "of-a-test"
    lines = _wait_for_lines("of-a-test")
    assert {line["deployment"] for line in lines} >= {"test_Ingress", "test_Preprocess"}
    assert all(line["levelname"] and line["message"] for line in lines)
    ours = [
        line for line in _log_lines("postprocess settings changed") if line.get("component_name")
    ]
    assert ours, "our own loggers do not write where Serve's do"


def _wait_for_lines(text: str) -> list[dict[str, Any]]:
    """Wait until at least two stages have logged the text; returns the lines."""
    deadline_s, pause = time.monotonic() + TIMEOUT_S, threading.Event()
    while True:
        found = _log_lines(text)
        if len({line["deployment"] for line in found}) >= 2:
            return found
        assert time.monotonic() < deadline_s, "the request id is not in the logs of two stages"
        pause.wait(0.5)


def _log_lines(text: str) -> list[dict[str, Any]]:
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    return [
        json.loads(line)
        for path in (session / "logs" / "serve").glob("replica_*.log")
        for line in path.read_text().splitlines()
        if text in line and line.startswith("{")
    ]
