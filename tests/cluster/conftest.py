"""Fixtures for Ray nodes in network namespaces; they need root."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.lab import Lab, require_namespaces
from tests.cluster.ray_nodes import RayNodes

MakeNodes = Callable[..., RayNodes]


@pytest.fixture
def lab() -> Iterator[Lab]:
    require_namespaces()
    with tempfile.TemporaryDirectory(prefix="as-") as folder:
        found = Lab(Path(folder))
        try:
            yield found
        finally:
            found.close()


@pytest.fixture
def make_nodes(lab: Lab, tiny_checkpoint: Path) -> MakeNodes:
    """Function that creates RayNodes with the environment of an overlay's pods."""

    def make(overlay: str, **environment: str) -> RayNodes:
        return RayNodes(
            lab.folder,
            overlay,
            {"ACOUSTICSENSE_CHECKPOINT": str(tiny_checkpoint), **environment},
        )

    return make
