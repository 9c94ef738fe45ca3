"""The HTTP application in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from acoustic.pipeline import Pipeline, PipelineConfig
from deployments.config import HttpConfig
from deployments.http.api import create_app
from tests.support.http import (
    MAX_BODY_BYTES,
    InProcess,
)


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint: Path) -> Pipeline:
    return Pipeline.from_folder(tiny_checkpoint, PipelineConfig(with_digest=True))


@pytest.fixture
def service(pipeline: Pipeline) -> InProcess:
    return InProcess(pipeline)


@pytest.fixture
def client(service: InProcess) -> Iterator[TestClient]:
    http = HttpConfig(max_body_bytes=MAX_BODY_BYTES, max_files=3)
    with TestClient(create_app(service, http), raise_server_exceptions=False) as client:
        yield client
