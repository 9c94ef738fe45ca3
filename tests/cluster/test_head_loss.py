"""The head dies and restarts: workers keep serving, and the new head restores the cluster."""

from __future__ import annotations

import shutil
import threading
import time

import pytest

from tests.cluster.conftest import MakeNodes
from tests.cluster.lab import Lab
from tests.cluster.ray_nodes import HTTP_PORT, Load, RayNodes, serve_config, wait_until

N_REQUESTS, RATE = 750, 15.0
BEFORE = 100
DOWN_S = 20.0
TIMEOUT_S = 180.0
REDIS_PORT = 6379
PASSWORD = "of-the-tests"

pytestmark = pytest.mark.timeout(600)  # two starts of a head, 50 s of load, and the recovery


def test_redis_remembers_the_cluster(lab: Lab, make_nodes: MakeNodes) -> None:
    redis_server = shutil.which("redis-server")
    if redis_server is None:
        pytest.skip("redis-server is not installed")
    redis = lab.add_host()
    command = [
        redis_server, "--port", str(REDIS_PORT), "--bind", redis.address, "--requirepass", PASSWORD,
        "--save", "", "--dir", str(lab.folder),
    ]  # fmt: skip
    redis.start(command, {}, "redis")
    nodes = make_nodes("ha")
    _check(
        lab, nodes, {"RAY_REDIS_ADDRESS": f"{redis.address}:{REDIS_PORT}"},
        "--redis-password", PASSWORD,
    )  # fmt: skip


def test_rocksdb_remembers_the_cluster(lab: Lab, make_nodes: MakeNodes) -> None:
    storage = lab.folder / "gcs"
    storage.mkdir()
    nodes = make_nodes("ha-rocksdb")
    _check(lab, nodes, {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(storage)})


def _check(lab: Lab, nodes: RayNodes, storage: dict[str, str], *options: str) -> None:
    head, one, other = (lab.add_host() for _ in range(3))
    nodes.start_head(head, storage, *options)
    nodes.start_worker(one)
    nodes.start_worker(other)
    nodes.deploy(serve_config("ha"))

    urls = [f"http://{host.address}:{HTTP_PORT}" for host in (one, other)]
    load = Load(one, nodes, urls, N_REQUESTS, RATE, "--retry-s", "60")
    wait_until(lambda: load.n_done() > BEFORE, TIMEOUT_S, "no requests come in")
    head.kill()
    down_s = time.monotonic()
    threading.Event().wait(DOWN_S)  # not a wait for a condition: the outage is tested
    nodes.start_head(head, storage, *options)
    print(f"head back after {time.monotonic() - down_s:.1f} s")
    found = load.wait(TIMEOUT_S)
    print("head killed:", found)
    assert found["n_done"] == N_REQUESTS
    assert found["lost"] == []
    wait_until(
        lambda: nodes.is_running() and nodes.n_running() == 8,
        TIMEOUT_S, "the new head does not know the application",
    )  # fmt: skip
    print(f"the new head knows the application after {time.monotonic() - down_s:.1f} s")
