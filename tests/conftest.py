"""Marks come from the folder; randomness is seeded; real data is optional."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.models import save_tiny_checkpoint

ROOT = Path(__file__).resolve().parent.parent
DATA_VARIABLE = "ACOUSTICSENSE_TEST_DATA"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        item.add_marker(getattr(pytest.mark, folder))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20_26)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded, untrained model of a few thousand weights: real code, no meaning."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="session")
def default_checkpoint() -> Path:
    return ROOT / "models" / "default"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real labelled music and odd files, where this machine has them."""
    folder = Path(os.environ.get(DATA_VARIABLE, ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data on this machine: set {DATA_VARIABLE}")
    return folder
