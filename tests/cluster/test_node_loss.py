"""One node is cut off and one loses power under load: no request is lost."""

from __future__ import annotations

from collections.abc import Callable

from tests.cluster.conftest import MakeNodes
from tests.cluster.lab import Host, Lab
from tests.cluster.ray_nodes import HTTP_PORT, Load, RayNodes, serve_config, wait_until

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
    _check_nothing_is_lost(head, nodes, url, vanishes.cut_off)

    replacement = lab.add_host()
    nodes.start_worker(replacement)
    wait_until(lambda: nodes.n_running() == 8, TIMEOUT_S, "the replicas do not come back")
    _check_nothing_is_lost(head, nodes, url, replacement.kill)


def _check_nothing_is_lost(
    head: Host, nodes: RayNodes, url: str, lose_a_node: Callable[[], None]
) -> None:
    # while half of the service is away it may refuse, and callers come again: that is not a loss
    load = Load(head, nodes, [url], N_REQUESTS, RATE, "--retry-s", "60")
    wait_until(lambda: load.n_done() > BEFORE, TIMEOUT_S, "no requests come in")
    lose_a_node()
    found = load.wait(TIMEOUT_S)
    print(found)
    assert found["n_done"] == N_REQUESTS
    assert found["lost"] == []
