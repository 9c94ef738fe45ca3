"""Fake GPU nodes scale from 0 to 1 to 3 and back to 0 with the windows in flight."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.cluster import fake_nodes
from tests.cluster.conftest import MakeNodes
from tests.cluster.lab import Host, Lab
from tests.cluster.ray_nodes import (
    GCS_PORT,
    HTTP_PORT,
    Load,
    RayNodes,
    serve_config,
    wait_until,
)

N_CPUS, MAX_GPU_NODES = 6, 3
UP_LIMIT_S = 20.0
TIMEOUT_S = 120.0


def test_gpu_nodes_come_with_the_work_and_go_with_it(
    lab: Lab, make_nodes: MakeNodes, default_checkpoint: Path
) -> None:
    head = lab.add_host()
    nodes = make_nodes("gpu", ACOUSTICSENSE_CHECKPOINT=str(default_checkpoint))
    path = lab.folder / "autoscaling.json"
    fake_nodes.write_config(path, f"{head.address}:{GCS_PORT}", N_CPUS, MAX_GPU_NODES)
    nodes.start_head(
        head, fake_nodes.environment(), "--autoscaling-config", str(path), n_cpus=N_CPUS
    )
    nodes.deploy(_without_cuda(serve_config("gpu")))
    assert nodes.n_replicas("Classify") == 0
    assert nodes.n_alive() == 1

    began = datetime.now()
    first = _load(head, nodes, n=1, rate=1.0)
    assert first.wait(TIMEOUT_S)["lost"] == []
    print(f"an answer {(datetime.now() - began).total_seconds():.1f} s after the first request")
    _check_added(nodes, began, n_nodes=1)

    began = datetime.now()
    many = _load(head, nodes, n=120, rate=10.0)
    wait_until(lambda: nodes.n_alive() == 4, TIMEOUT_S, "there are not three GPU nodes")
    found = many.wait(2 * TIMEOUT_S)
    print("from one to three:", found)
    assert found["lost"] == []
    _check_added(nodes, began, n_nodes=2)

    wait_until(lambda: nodes.n_alive() == 1, TIMEOUT_S, "the GPU nodes do not go")
    assert nodes.n_replicas("Classify") == 0
    print("\n".join(_events(nodes)))


def _check_added(nodes: RayNodes, began: datetime, n_nodes: int) -> None:
    """Check the time of the autoscaler's decision in its log, not when the nodes have started."""
    added: list[tuple[int, float]] = []
    for line in _events(nodes):
        found = re.search(r"Adding (\d+) node", line)
        at = datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f") if found else began
        if found and at > began:
            added.append((int(found[1]), (at - began).total_seconds()))
    print(f"GPU nodes added, and after how many seconds: {added}")
    assert sum(n for n, _ in added) == n_nodes  # at once or one after another
    assert added[0][1] < UP_LIMIT_S


def _without_cuda(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration for fake GPUs: the model on the CPU, and short scale-down delays."""
    (application,) = config["applications"]
    application["args"]["accelerator"] = "cpu"
    config["proxy_location"] = "HeadOnly"
    for deployment in application["deployments"]:
        if deployment["name"] == "Classify":
            deployment["ray_actor_options"] = {"num_cpus": 1, "num_gpus": 1}
            scaling = deployment["autoscaling_config"]
            scaling |= {"max_replicas": 3, "downscale_delay_s": 5, "downscale_to_zero_delay_s": 8}
            scaling["policy"]["policy_kwargs"] = {"target_windows": 4}
    return config


def _load(head: Host, nodes: RayNodes, n: int, rate: float) -> Load:
    """Requests of callers who come again when the service, still too small, refuses them."""
    url = f"http://{head.address}:{HTTP_PORT}"
    options = ["--timeout", "60", "--retry-s", "120", "--effort", "thorough", "--sound-s", "30"]
    return Load(head, nodes, [url], n, rate, *options)


def _events(nodes: RayNodes) -> list[str]:
    """Log lines of nodes that the autoscaler added or removed, and of scaling of Classify."""
    logs = nodes.folder / "ray" / "session_latest" / "logs"
    serve = "".join(path.read_text() for path in sorted((logs / "serve").glob("controller*.log")))
    found = re.findall(
        r"^.*(?:Adding|Removing) \d+ node.*$", (logs / "monitor.log").read_text(), re.M
    )
    return found + re.findall(r"^.*scaling Deployment.*Classify.*$", serve, re.M)
