"""Shared fixtures: marks set from the folder, seeded randomness, optional real data."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.support.models import save_tiny_checkpoint
from tests.support.paths import ROOT

DATA_VARIABLE = "ACOUSTICSENSE_TEST_DATA"


def pytest_configure() -> None:
    """Take Ctrl-C also where a shell has started the tests in the background.

    Such a shell has its jobs ignore SIGINT, and the programs that they start as well.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        item.add_marker(getattr(pytest.mark, folder))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20_26)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a seeded, untrained model of a few thousand weights."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture(scope="session")
def default_checkpoint() -> Path:
    return ROOT / "models" / "default"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of real labelled music and unusual files; skips where it is not set."""
    folder = Path(os.environ.get(DATA_VARIABLE, ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no folder of real data: set {DATA_VARIABLE}")
    return folder
