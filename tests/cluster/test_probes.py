"""The pods' probes, run against nodes that have the pods' environment variables."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tests.cluster.conftest import MakeNodes
from tests.cluster.lab import Host, Lab
from tests.cluster.ray_nodes import serve_config
from tests.support.kuberay import find


@pytest.mark.parametrize("overlay", ["cpu", "ha"])
def test_nodes_that_serve_are_ready_and_others_alive(
    lab: Lab, make_nodes: MakeNodes, overlay: str
) -> None:
    head, worker, other = (lab.add_host() for _ in range(3))
    nodes = make_nodes(overlay, ACOUSTICSENSE_API_KEY="of-a-test")
    nodes.start_head(head)
    nodes.start_worker(worker)
    if overlay == "ha":
        nodes.start_worker(other)
    nodes.deploy(serve_config(overlay))
    if overlay == "cpu":
        nodes.start_worker(other)  # joins after all replicas are placed, so it runs none
    cluster = find(overlay, "RayService")["spec"]["rayClusterConfig"]
    (group,) = cluster["workerGroupSpecs"]
    assert _answers(head, _probes(cluster["headGroupSpec"]))
    assert _answers(worker, _probes(group))
    live, ready = _probes(group)
    assert _answers(other, [live])
    assert _answers(other, [ready]) == (overlay == "ha")


def _probes(group: dict[str, Any]) -> list[dict[str, Any]]:
    container = group["template"]["spec"]["containers"][0]
    return [container["livenessProbe"], container["readinessProbe"]]


def _answers(host: Host, probes: list[dict[str, Any]]) -> bool:
    return all(_answers_one(host, probe) for probe in probes)


def _answers_one(host: Host, probe: dict[str, Any]) -> bool:
    """Run a probe as the kubelet does: HTTP to the pod's address, or a command in the pod."""
    if "exec" in probe:
        command = probe["exec"]["command"]
    else:
        url = f"http://{host.address}:{probe['httpGet']['port']}{probe['httpGet']['path']}"
        command = ["curl", "-sf", "-m", str(probe["timeoutSeconds"]), url]
    done = subprocess.run(
        ["ip", "netns", "exec", host.name, *command], capture_output=True, check=False
    )
    return done.returncode == 0
