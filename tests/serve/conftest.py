"""One local Ray cluster for all tests of this folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from ray import serve

from acoustic.content_cache import CacheConfig
from benchmarks.s3_server import KEY, SECRET, S3Server, free_port
from deployments.config import ServiceConfig
from deployments.stages.classify import Classify
from deployments.stages.colocated import Colocated
from deployments.stages.ingress import Ingress
from deployments.stages.postprocess import Postprocess
from deployments.stages.preprocess import Preprocess

Deploy = Callable[..., httpx.Client]

N_LOGICAL_CPUS = 8
READY_TIMEOUT_S = 120.0


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A local S3 server; its credentials are set in the environment."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("RAY_worker_niceness", "0")  # else nice 15: timeouts on a busy machine
        yield server
    server.close()


@pytest.fixture(scope="session")
def cluster(s3: S3Server) -> Iterator[int]:
    """HTTP port of Serve on a local cluster."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="as-") as folder:
        ray.init(
            address="local",
            num_cpus=N_LOGICAL_CPUS,
            include_dashboard=False,
            _temp_dir=folder,
            _system_config={"memory_monitor_refresh_ms": 0, "metrics_report_interval_ms": 1000},
            log_to_driver=False,
        )
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            yield port
            serve.shutdown()
        finally:
            ray.shutdown()


@pytest.fixture
def deploy(cluster: int, tiny_checkpoint: Path) -> Iterator[Deploy]:
    """Function that runs the graph with replaced classes, settings or options; returns a client."""
    with deploying(cluster, tiny_checkpoint) as run:
        yield run


@pytest.fixture(scope="module")
def deploy_once(cluster: int, tiny_checkpoint: Path) -> Iterator[Deploy]:
    """The same for all tests of a module, none of which may use `deploy`."""
    with deploying(cluster, tiny_checkpoint) as run:
        yield run


@contextmanager
def deploying(cluster: int, tiny_checkpoint: Path) -> Iterator[Deploy]:
    """See `deploy`."""
    clients: list[httpx.Client] = []

    def run(
        *,
        config: ServiceConfig | None = None,
        classes: dict[str, type] | None = None,
        options: dict[str, dict[str, Any]] | None = None,
        topology: str = "chain",
    ) -> httpx.Client:
        chosen: dict[str, type] = {
            "Preprocess": Preprocess, "Classify": Classify, "Postprocess": Postprocess,
        } | (classes or {})  # fmt: skip
        changes = options or {}
        # every request reaches the stages, unless a test brings its own settings
        settings = config or ServiceConfig(
            checkpoint=str(tiny_checkpoint), cache=CacheConfig(answer_bytes=0)
        )
        folder = settings.checkpoint_folder

        def deployment(name: str, cls: type) -> Any:
            defaults = {"max_ongoing_requests": 100, "ray_actor_options": {"num_cpus": 0.5}}
            return serve.deployment(cls, name=name, **(defaults | changes.get(name, {})))

        stages: tuple[Any, ...]
        if topology == "colocated":
            stages = (
                deployment("Colocated", Colocated).bind(
                    folder, settings.preprocess, settings.cache, settings.engine,
                    settings.postprocess, settings.sandbox,
                ),
            )  # fmt: skip
        else:
            stages = (
                deployment("Preprocess", chosen["Preprocess"]).bind(
                    folder, settings.preprocess, settings.cache, settings.sandbox
                ),
                deployment("Classify", chosen["Classify"]).bind(folder, settings.engine),
                deployment("Postprocess", chosen["Postprocess"]).bind(folder, settings.postprocess),
            )
        ingress = deployment("Ingress", serve.ingress()(Ingress))
        graph = ingress.bind({"": stages}, settings)
        serve.run(graph, name="test", route_prefix="/")
        client = httpx.Client(base_url=f"http://127.0.0.1:{cluster}", timeout=60)
        clients.append(client)
        assert client.get("/readyz", timeout=READY_TIMEOUT_S).status_code == 200
        return client

    yield run
    for client in clients:
        client.close()
    serve.delete("test")
