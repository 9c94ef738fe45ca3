"""The shipped service with the shipped model, over real HTTP."""

from __future__ import annotations

import asyncio
import csv
import json
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import numpy as np
import psutil
import pytest
import tritonclient.http

from acoustic.pipeline import Pipeline, PipelineConfig
from tests.e2e.conftest import Service, start, stop, wait_until_ready
from tests.support.schema import check_schema
from tests.support.sounds import encode, noise, silent_flac, streamed_flac, sweep

N_REQUESTS = 200
CONCURRENCY = 32
MAX_BODY_BYTES = 48 << 20
MAX_ANSWER_S = 10.0
MAX_GROWTH_MB = 300.0
N_REPLICAS = 2

KINDS = ("wav", "flac", "ogg", "mp3")
SOUNDS = [
    encode(noise(20.0, 44_100, seed=seed) + sweep(20.0, 44_100), 44_100, kind)
    for seed in range(3)
    for kind in KINDS
]


@pytest.fixture(scope="module")
def pipeline(default_checkpoint: Path) -> Pipeline:
    return Pipeline.from_folder(default_checkpoint, PipelineConfig(with_digest=True))


def comparable(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key not in ("timings_ms", "cached")}


async def post_all(url: str, bodies: list[bytes]) -> list[httpx.Response]:
    """Send N_REQUESTS with the bodies in turn, CONCURRENCY at a time; returns the replies."""
    limits = httpx.Limits(max_connections=CONCURRENCY)
    slots = asyncio.Semaphore(CONCURRENCY)
    async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:

        async def post(i: int) -> httpx.Response:
            async with slots:
                while True:
                    reply = await client.post("/v1/classify", content=bodies[i % len(bodies)])
                    if reply.status_code != 429:  # refused: the machine is slow at the moment
                        return reply
                    await asyncio.sleep(float(reply.headers["retry-after"]))

        return await asyncio.gather(*(post(i) for i in range(N_REQUESTS)))


def check_load(service: Service, pipeline: Pipeline, bodies: list[bytes]) -> None:
    replies = asyncio.run(post_all(service.url, bodies))
    expected = [comparable(pipeline.classify(body).to_dict()) for body in bodies]
    for i, reply in enumerate(replies):
        assert reply.status_code == 200, reply.text
        assert comparable(reply.json()) == expected[i % len(bodies)]


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_the_printed_line_works(service: Service) -> None:
    line = next(line for line in service.lines if "curl" in line and "example.wav" in line)
    result = subprocess.run([*shlex.split(line), "-s"], capture_output=True, check=True)
    body = json.loads(result.stdout)
    check_schema(body)
    assert body["duration_s"] == 30.0
    assert body["model"]["name"] == "acousticsense-hybrid"


def test_load_gives_exactly_the_pipelines_numbers(service: Service, pipeline: Pipeline) -> None:
    check_load(service, pipeline, SOUNDS)
    with service.client() as client:
        facts = client.get("/v1/stats").json()["replicas"]["classify"]
    assert facts["largest_batch_tracks"] > 1


def test_real_music_under_load(service: Service, pipeline: Pipeline, data_folder: Path) -> None:
    rows = csv.DictReader((data_folder / "music" / "manifest.csv").read_text().splitlines())
    names = [row["file"] for row in rows if row["split"] == "valid"][:40]
    bodies = [(data_folder / "music" / name).read_bytes() for name in names]
    check_load(service, pipeline, bodies)


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_in_every_form(service: Service, kind: str) -> None:
    data = SOUNDS[KINDS.index(kind)]
    with service.client() as client:
        raw = client.post("/v1/classify", content=data, params={"file": "x"}).json()
        form = client.post("/v1/classify", files={"file": ("x", data)}).json()
    assert comparable(raw) == comparable(form)
    check_schema(raw)


def test_uploads_over_four_mebibytes(service: Service, pipeline: Pipeline) -> None:
    """4 MiB is the default limit of gRPC messages between the deployments."""
    large = encode(noise(200.0, 44_100), 44_100)
    assert len(large) > 16 << 20
    with service.client() as client:
        reply = client.post("/v1/classify", content=large)
    assert reply.status_code == 200, reply.text
    assert comparable(reply.json()) == comparable(pipeline.classify(large).to_dict())


def hostile() -> dict[str, tuple[dict[str, Any], int]]:
    wav = bytearray(encode(sweep(9.0), 22_050))
    one_hertz = wav.copy()
    one_hertz[24:28] = (1).to_bytes(4, "little")
    flac = bytearray(encode(noise(20.0), 22_050, "flac"))
    lying = flac.copy()
    lying[22:26] = (22_050 * 3600).to_bytes(4, "big")
    nan = encode(np.full(22_050 * 5, np.nan, np.float32), 22_050, "wavfloat")
    many = encode(np.tile(noise(1.0)[:, None], (1, 254)), 22_050)
    return {
        "empty body": ({"content": b""}, 400),
        "text": ({"content": b"a song about nothing " * 50}, 415),
        "truncated header": ({"content": bytes(wav[:30])}, 422),
        "lying header": ({"content": bytes(lying)}, 422),
        "254 channels": ({"content": many}, 415),
        "eight hours of silence": ({"content": silent_flac(8 * 3600, 8000)}, 413),
        "streamed silence": ({"content": streamed_flac(silent_flac(8 * 3600, 8000))}, 413),
        "1 Hz": ({"content": bytes(one_hertz)}, 415),
        "not a number": ({"content": nan}, 422),
        "a byte too many": ({"content": bytes(MAX_BODY_BYTES + 1)}, 413),
        "unknown JSON field": ({"json": {"audio": "AAAA", "volume": 11}}, 422),
        "uri": ({"json": {"uri": "https://example.com/song.mp3"}}, 403),
    }


def stage_1(client: httpx.Client) -> dict[int, dict[str, Any]]:
    """Facts of both replicas of stage 1, by process id: any one answers a question."""
    found: dict[int, dict[str, Any]] = {}
    for _ in range(100):
        facts = client.get("/v1/stats").json()["replicas"]["preprocess"]
        found[facts["pid"]] = facts
        if len(found) == N_REPLICAS:
            return found
    raise AssertionError(f"{len(found)} replicas of stage 1 answer, not {N_REPLICAS}")


def test_bad_input_is_a_clear_refusal(service: Service) -> None:
    with service.client() as client:
        client.post("/v1/classify", content=SOUNDS[0])
        before = stage_1(client)
        for name, (request, status) in hostile().items():
            start_s = time.monotonic()
            reply = client.post("/v1/classify", **request)
            assert reply.status_code == status, f"{name}: {reply.text}"
            assert reply.json()["error"]["message"], name
            assert time.monotonic() - start_s < MAX_ANSWER_S, name
        after = stage_1(client)
    assert after.keys() == before.keys()  # none of them died
    for pid, facts in after.items():
        assert facts["peak_rss_mb"] - before[pid]["peak_rss_mb"] < MAX_GROWTH_MB
        assert not facts["torch_loaded"]


def test_the_largest_body_gets_through(service: Service) -> None:
    with service.client() as client:
        reply = client.post("/v1/classify", content=bytes(MAX_BODY_BYTES))
    assert reply.json()["error"]["code"] == "unsupported_audio"


def test_clients_of_other_protocols_get_the_same_probabilities(service: Service) -> None:
    """With the packages that people use: huggingface_hub and Triton's client."""
    reply = httpx.post(f"{service.url}/v1/classify", content=SOUNDS[0])
    expected = reply.json()["predictions"]
    hub = huggingface_hub.InferenceClient(f"{service.url}/v1/audio-classification")
    found = hub.audio_classification(SOUNDS[0], top_k=3)
    assert [(each.label, each.score) for each in found] == [
        (each["genre"], each["probability"]) for each in expected[:3]
    ]
    (model,) = httpx.get(f"{service.url}/v1/models").json()["models"]
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{service.port}")
    assert client.is_server_live()
    assert client.is_model_ready(model["name"])
    assert client.get_model_metadata(model["name"])["inputs"][0]["name"] == "audio"
    audio = tritonclient.http.InferInput("audio", [2], "BYTES")
    audio.set_data_from_numpy(np.array([SOUNDS[0], SOUNDS[1]], dtype=object))
    result = client.infer(model["name"], [audio])
    probabilities = result.as_numpy("probabilities")
    assert probabilities.shape == (2, 5)
    assert probabilities[0].tolist() == pytest.approx([each["probability"] for each in expected])
    assert result.as_numpy("genres")[0].tolist() == [each["genre"] for each in expected]
    client.close()


def test_headers(service: Service) -> None:
    with service.client() as client:
        reply = client.post("/v1/classify", content=SOUNDS[0], headers={"x-request-id": "my-id"})
    assert [v for k, v in reply.headers.multi_items() if k == "x-request-id"] == ["my-id"]
    assert "decode;dur=" in reply.headers["server-timing"] or reply.json()["cached"]


def test_it_listens_on_loopback_only(service: Service) -> None:
    """Other addresses of this machine do not answer."""
    addresses = [
        item.address
        for interface in psutil.net_if_addrs().values()
        for item in interface
        if item.family == socket.AF_INET and not item.address.startswith("127.")
    ]
    if not addresses:
        pytest.skip("this machine has only the loopback address")
    for address in addresses:
        with socket.socket() as probe:
            probe.settimeout(2)
            assert probe.connect_ex((address, service.port)) != 0


def test_a_second_service_on_the_port_is_refused(service: Service) -> None:
    command = [sys.executable, "-m", "acousticsense", "serve", "--port", str(service.port)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "is in use" in result.stderr


def test_serve_run_works_as_well(plain_config: tuple[Path, int], pipeline: Pipeline) -> None:
    """`serve run serve_config.yaml`, without our command, its flags or HAProxy."""
    path, port = plain_config
    serve = str(Path(sys.executable).with_name("serve"))
    command = [serve, "run", "--address", "local", str(path)]
    running = start(command, port, "Submitted deploy config successfully")
    try:
        wait_until_ready(running)
        with running.client() as client:
            reply = client.post("/v1/classify", content=SOUNDS[1])
            assert reply.status_code == 200, reply.text
            assert comparable(reply.json()) == comparable(pipeline.classify(SOUNDS[1]).to_dict())
    finally:
        stop(running)


def test_ctrl_c_ends_it_cleanly(service: Service) -> None:
    """Must stay the last test: it ends the shared service."""
    assert stop(service) == 0
    assert "stopping" in "\n".join(service.lines)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{service.url}/healthz", timeout=5)
