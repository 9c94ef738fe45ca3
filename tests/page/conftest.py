"""A browser, and the application with the shipped model on a free port of loopback."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acoustic.errors import OverloadedError, UnsupportedAudioError
from acoustic.pipeline import Pipeline
from acoustic.prediction import Prediction
from acoustic.request import RequestOptions
from deployments.config import HttpConfig
from deployments.http.api import create_app
from deployments.http.keys import Keys
from tests.support.http import InProcess
from tests.support.site import Site

CHROMIUM = "ACOUSTICSENSE_CHROMIUM"
MAX_BODY_BYTES = 4 << 20
KEY = "open sesame"


class PageService(InProcess):
    """The pipeline in this process, which a test may let refuse some requests."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(pipeline)
        self.n_refusals = self.most_at_a_time = self._now = 0
        self.reads_wav_only = False

    async def classify(self, data: bytes, options: RequestOptions) -> Prediction:
        if self.n_refusals:
            self.n_refusals -= 1
            raise OverloadedError("the service is busy: try again later", retry_after_s=1.0)
        if self.reads_wav_only and data[:4] != b"RIFF":
            raise UnsupportedAudioError("the bytes need an extra that is not installed")
        self._now += 1
        self.most_at_a_time = max(self.most_at_a_time, self._now)
        try:
            return await asyncio.to_thread(self.pipeline.classify, data, options)
        finally:
            self._now -= 1

    async def stats(self) -> dict[str, Any]:
        return {
            "uptime_s": 61.0, "requests": {"ok": 3}, "cache_hit_ratio": 0.5, "review_ratio": None,
            "confidence_drift": None, "latency_ms": {"total": {"p50": 40.0, "p95": 90.0}},
        }  # fmt: skip


class PageSite(Site):
    """The application with the page, with limits that a test can reach."""

    def __init__(self, service: PageService, api_key: str = "") -> None:
        self.service = service
        http = HttpConfig(max_body_bytes=MAX_BODY_BYTES)
        super().__init__(create_app(service, http, keys=Keys(api_key)))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, or the one that the environment names."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = os.environ.get(CHROMIUM) or shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium on the PATH: install it, e.g. apt-get install chromium")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(
            executable_path=path,
            args=[
                "--no-sandbox",
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                "--autoplay-policy=no-user-gesture-required",
            ],
        )
        yield found
        found.close()


@pytest.fixture(scope="session")
def pipeline(default_checkpoint: Path) -> Pipeline:
    return Pipeline.from_folder(default_checkpoint)


@pytest.fixture(scope="session")
def site(pipeline: Pipeline) -> Iterator[PageSite]:
    found = PageSite(PageService(pipeline))
    yield found
    found.stop()


@pytest.fixture(scope="session")
def locked_site(pipeline: Pipeline) -> Iterator[PageSite]:
    found = PageSite(PageService(pipeline), api_key=KEY)
    yield found
    found.stop()
