"""Deployments on a real Ray cluster: parity, batches, faults, overload, changing settings."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from acoustic.content_cache import CacheConfig
from acoustic.digest import content_digest
from acoustic.errors import InputError
from acoustic.pipeline import Pipeline, PipelineConfig
from acoustic.request import RequestOptions
from acoustic.types import TrackFeatures, TrackLogits
from deployments.config import HttpConfig, ServiceConfig
from deployments.sources.config import SourcesConfig
from deployments.stages.classify import Classify
from deployments.stages.preprocess import Preprocess
from tests.serve.conftest import Deploy
from tests.support.sounds import encode, noise, sweep

SOUNDS = [encode(noise(20.0, seed=seed) + sweep(20.0) * seed, 22_050, "flac") for seed in range(6)]
NO_ANSWERS = CacheConfig(answer_bytes=0)
EXPECTED_DIFFERENCES = {"timings_ms", "cached"}


def post(client: httpx.Client, data: bytes, **params: str) -> httpx.Response:
    return client.post("/v1/classify", content=data, params=params)


def comparable(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in EXPECTED_DIFFERENCES}


def changed(client: httpx.Client, data: bytes, before: dict[str, Any]) -> dict[str, Any]:
    """The first answer by other settings: a repeat may have the old ones for a second."""
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        body: dict[str, Any] = post(client, data).json()
        if body["config_digest"] != before["config_digest"]:
            return body
    raise AssertionError("the settings have not changed")


def stats_of(client: httpx.Client, stage: str) -> dict[str, Any]:
    replicas: dict[str, dict[str, Any]] = client.get("/v1/stats").json()["replicas"]
    return replicas[stage]


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint: Path) -> Pipeline:
    return Pipeline.from_folder(tiny_checkpoint, PipelineConfig(with_digest=True))


@pytest.mark.parametrize("topology", ["chain", "colocated"])
def test_http_gives_exactly_the_pipelines_numbers(
    deploy: Deploy, pipeline: Pipeline, topology: str
) -> None:
    client = deploy(topology=topology)
    for data in SOUNDS:
        for effort in ("fast", "balanced", "thorough", "auto"):
            found = post(client, data, effort=effort, top_k="16", timeline="true").json()
            expected = pipeline.classify(
                data, RequestOptions(effort=effort, top_k=16, timeline=True)
            )
            assert comparable(found) == comparable(expected.to_dict())
    cached = post(client, SOUNDS[0]).json()
    assert cached["cached"]
    assert comparable(cached) == comparable(pipeline.classify(SOUNDS[0]).to_dict())
    large = encode(noise(40.0, seed=9), 44_100)  # goes through the object store
    assert comparable(post(client, large).json()) == comparable(pipeline.classify(large).to_dict())
    name = "colocated" if topology == "colocated" else "classify"
    assert stats_of(client, name)["tracks"] > len(SOUNDS)


@pytest.mark.parametrize("topology", ["chain", "colocated"])
def test_a_repeat_is_answered_without_the_stages(
    deploy: Deploy, tiny_checkpoint: Path, topology: str
) -> None:
    client = deploy(config=ServiceConfig(checkpoint=str(tiny_checkpoint)), topology=topology)
    first, again = post(client, SOUNDS[0]).json(), post(client, SOUNDS[0]).json()
    assert (first["cached"], again["cached"]) == (False, True)
    assert list(again["timings_ms"]) == ["hash"]
    assert comparable(first) == comparable(again)
    name = "colocated" if topology == "colocated" else "classify"
    assert stats_of(client, name)["tracks"] == 1


@pytest.mark.parametrize("topology", ["chain", "colocated"])
def test_a_long_file_by_reference_is_answered_by_parts_of_it(
    deploy: Deploy, tiny_checkpoint: Path, pipeline: Pipeline, tmp_path: Path, topology: str
) -> None:
    data = encode(sweep(300.0), 22_050)
    (tmp_path / "long.wav").write_bytes(data)
    config = ServiceConfig(
        checkpoint=str(tiny_checkpoint),
        http=HttpConfig(max_body_bytes=len(data) // 2),
        sources=SourcesConfig(roots=(str(tmp_path),)),
    )
    client = deploy(config=config, topology=topology)
    for effort in ("balanced", "auto"):
        request = {"uri": f"file://{tmp_path}/long.wav", "effort": effort, "file": "a"}
        found = client.post("/v1/classify", json=request).json()
        options = RequestOptions(effort=effort, file="a")  # type: ignore[arg-type]
        expected = replace(pipeline.classify(data, options), content_blake3="")
        assert comparable(found) == comparable(expected.to_dict())


@pytest.mark.parametrize("topology", ["chain", "colocated"])
def test_errors_keep_their_class_through_the_chain(deploy: Deploy, topology: str) -> None:
    client = deploy(topology=topology)
    response = post(client, SOUNDS[0][:60])
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "audio_decode_failed"
    assert "Traceback" not in response.text
    too_many = post(client, SOUNDS[0], top_k="17")
    assert too_many.json()["error"]["message"] == "top_k is 17, limits are 1 to 16"


class SlowClassify(Classify):
    """The real stage with a delay of 0.15 s, so that a queue builds up behind the first batch."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        classify = self._classifier.classify
        wait = threading.Event().wait

        def slow(tracks: Sequence[TrackFeatures]) -> list[TrackLogits]:
            wait(0.15)
            return classify(tracks)

        self._coalescer._run = slow


def test_concurrent_requests_form_batches_and_do_not_mix(
    deploy: Deploy, pipeline: Pipeline
) -> None:
    client = deploy(classes={"Classify": SlowClassify})
    with ThreadPoolExecutor(24) as pool:
        replies = list(pool.map(lambda i: post(client, SOUNDS[i % 6]), range(72)))
    expected = [comparable(pipeline.classify(data).to_dict()) for data in SOUNDS]
    for i, reply in enumerate(replies):
        assert reply.status_code == 200, reply.text
        assert comparable(reply.json()) == expected[i % 6]
    facts = stats_of(client, "classify")
    assert facts["tracks"] == 72
    assert facts["largest_batch_tracks"] > 4
    assert facts["batches"] < 36


class FailingClassify(SlowClassify):
    """Fails whenever a batch contains the track FAILING."""

    FAILING = SOUNDS[3]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        failing, run = content_digest(self.FAILING), self._coalescer._run

        def fail_on_track(tracks: Sequence[TrackFeatures]) -> Sequence[TrackLogits]:
            if any(track.facts.content_blake3 == failing for track in tracks):
                raise RuntimeError("device-side assert")
            return run(tracks)

        self._coalescer._run = fail_on_track


def test_a_failing_item_fails_alone(deploy: Deploy, pipeline: Pipeline) -> None:
    client = deploy(classes={"Classify": FailingClassify})
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda i: post(client, SOUNDS[i % 6]), range(24)))
    for i, reply in enumerate(replies):
        if i % 6 == 3:
            assert reply.status_code == 500
            assert reply.json()["error"]["code"] == "classification_failed"
        else:
            expected = comparable(pipeline.classify(SOUNDS[i % 6]).to_dict())
            assert comparable(reply.json()) == expected
    assert stats_of(client, "classify")["largest_batch_tracks"] > 1


class SlowPreprocess(Preprocess):
    """The real stage with a delay of 0.3 s, so that a replica can be killed during a request."""

    def __call__(self, *arguments: Any) -> TrackFeatures | InputError:
        threading.Event().wait(0.3)
        return super().__call__(*arguments)


@pytest.mark.parametrize("stage", ["Preprocess", "Classify"])
def test_a_dead_replica_loses_no_request(deploy: Deploy, pipeline: Pipeline, stage: str) -> None:
    slow = {"Preprocess": SlowPreprocess, "Classify": SlowClassify}
    client = deploy(classes={stage: slow[stage]}, options={stage: {"num_replicas": 2}})
    pid = stats_of(client, stage.lower())["pid"]
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(post, client, SOUNDS[i % 6]) for i in range(48)]
        futures[4].result()
        os.kill(pid, signal.SIGKILL)
        replies = [future.result() for future in futures]
    expected = [comparable(pipeline.classify(data).to_dict()) for data in SOUNDS]
    for i, reply in enumerate(replies):
        assert reply.status_code == 200, reply.text
        assert comparable(reply.json()) == expected[i % 6]


def test_overload_is_refused_at_once_and_what_is_taken_is_answered(
    deploy: Deploy, tiny_checkpoint: Path
) -> None:
    config = ServiceConfig(
        checkpoint=str(tiny_checkpoint), http=HttpConfig(retry_after_s=3.0), cache=NO_ANSWERS
    )
    client = deploy(
        config=config,
        classes={"Preprocess": SlowPreprocess},
        options={"Preprocess": {"max_ongoing_requests": 1, "max_queued_requests": 2}},
    )
    with ThreadPoolExecutor(24) as pool:
        replies = list(pool.map(lambda i: post(client, SOUNDS[i % 6]), range(24)))
    statuses = [reply.status_code for reply in replies]
    assert set(statuses) == {200, 429}
    refused = replies[statuses.index(429)]
    assert refused.json()["error"]["code"] == "overloaded"
    assert refused.headers["retry-after"] == "3"
    assert post(client, SOUNDS[0]).status_code == 200


def test_no_answer_in_time_is_a_timeout(deploy: Deploy, tiny_checkpoint: Path) -> None:
    config = ServiceConfig(
        checkpoint=str(tiny_checkpoint), http=HttpConfig(request_timeout_s=0.2), cache=NO_ANSWERS
    )
    client = deploy(config=config, classes={"Preprocess": SlowPreprocess})
    response = post(client, SOUNDS[0])
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "timeout"


def test_thresholds_change_without_a_restart(
    cluster: int, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """As `serve deploy` does it: the same file with another user_config."""
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"checkpoint: {tiny_checkpoint}\n")

    def deploy_threshold(value: float, **more: float) -> None:
        review = {"min_confidence": value, "min_margin": 0.0, "max_distance": 1.0, **more}
        application = {
            "name": "test",
            "route_prefix": "/",
            "import_path": "deployments.app:build",
            "args": {"config": str(settings), "classify_cpus": 0.5},
            "deployments": [{"name": "Postprocess", "user_config": {"review": review}}],
        }
        schema = ServeDeploySchema.model_validate({"applications": [application]})
        _get_global_client().deploy_apps(schema, _blocking=True)

    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{cluster}", timeout=60) as client:
            deploy_threshold(0.0)
            assert client.get("/readyz").status_code == 200
            pid, before = stats_of(client, "postprocess")["pid"], post(client, SOUNDS[1]).json()
            deploy_threshold(1.0)
            after = changed(client, SOUNDS[1], before)
            assert stats_of(client, "postprocess")["pid"] == pid
            deploy_threshold(1.9)
            deploy_threshold(0.5, min_konfidence=0.5)
            rejected = post(client, SOUNDS[1])
            assert stats_of(client, "postprocess")["pid"] == pid
    finally:
        serve.delete("test")
    assert not before["needs_review"]
    assert [reason["code"] for reason in after["reasons"]] == ["LOW_CONFIDENCE"]
    assert before["predictions"] == after["predictions"]
    assert before["config_digest"] != after["config_digest"]
    assert rejected.status_code == 200
    assert rejected.json()["config_digest"] == after["config_digest"]


def test_the_preprocessing_replica_stays_small(deploy: Deploy, tiny_checkpoint: Path) -> None:
    """Hostile files raise its memory by less than 300 MB; torch is not loaded."""
    import numpy as np

    from tests.support.sounds import silent_flac, streamed_flac

    cache_off = replace(ServiceConfig().cache, memory_bytes=0)
    config = ServiceConfig(checkpoint=str(tiny_checkpoint), cache=cache_off)
    client = deploy(config=config)
    post(client, SOUNDS[0])
    before_mb = stats_of(client, "preprocess")["peak_rss_mb"]
    not_a_number = np.full(22_050 * 5, np.nan, np.float32)
    hostile = {
        "eight hours of silence": (silent_flac(8 * 3600, 8000), 413),
        "a streamed bomb": (streamed_flac(silent_flac(1200, 96_000, channels=8)), 413),
        "254 channels": (encode(np.tile(noise(1.0)[:, None], (1, 254)), 22_050), 415),
        "not a number": (encode(not_a_number, 22_050, "wavfloat"), 422),
        "text": (b"some text " * 1000, 415),
        "a truncated header": (SOUNDS[0][:30], 422),
        "cut in half": (SOUNDS[0][: len(SOUNDS[0]) // 2], 422),
    }
    for name, (data, status) in hostile.items():
        assert post(client, data, effort="thorough").status_code == status, name
    assert stats_of(client, "preprocess")["peak_rss_mb"] - before_mb < 300
    assert not stats_of(client, "preprocess")["torch_loaded"]
