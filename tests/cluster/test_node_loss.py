"""A node is cut off, and one loses its power, while requests come in: none is lost."""

from __future__ import annotations

from tests.cluster.conftest import MakeNodes
from tests.cluster.lab import Lab
from tests.cluster.ray_nodes import HTTP_PORT, Load, serve_config, wait_until

N_REQUESTS, RATE = 510, 15.0
BEFORE = 150
TIMEOUT_S = 180.0


def test_no_request_is_lost_with_a_node(lab: Lab, make_nodes: MakeNodes) -> None:
    head, stays, vanishes = (lab.add_host() for _ in range(3))
    nodes = make_nodes("ha")
    nodes.start_head(head)
    nodes.start_worker(stays)
    nodes.start_worker(vanishes)
    nodes.deploy(serve_config("ha"))
    url = f"http://{stays.address}:{HTTP_PORT}"

    load = Load(head, nodes, [url], N_REQUESTS, RATE)
    wait_until(lambda: load.n_done() > BEFORE, TIMEOUT_S, "no requests come in")
    vanishes.cut_off()
    found = load.wait(TIMEOUT_S)
    print("cut off:", found)
    assert found["n_done"] == N_REQUESTS
    assert found["lost"] == []

    replacement = lab.add_host()
    nodes.start_worker(replacement)
    wait_until(lambda: nodes.n_running() == 8, TIMEOUT_S, "the replicas do not come back")
    load = Load(head, nodes, [url], N_REQUESTS, RATE)
    wait_until(lambda: load.n_done() > BEFORE, TIMEOUT_S, "no requests come in")
    replacement.kill()
    found = load.wait(TIMEOUT_S)
    print("killed:", found)
    assert found["n_done"] == N_REQUESTS
    assert found["lost"] == []
