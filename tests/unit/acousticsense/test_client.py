"""The client against the HTTP application over a real socket: answers, errors, retries, order."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route
from typer.testing import CliRunner

from acoustic.errors import (
    AcousticError,
    AudioDecodeError,
    FileUnreadableError,
    InvalidOptionError,
    OverloadedError,
    ServiceError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedAudioError,
)
from acoustic.pipeline import Pipeline
from acoustic.prediction import Prediction
from acoustic.request import RequestOptions
from acousticsense import AsyncClient, Client
from acousticsense.cli.main import app
from deployments.config import HttpConfig
from deployments.http.api import create_app
from deployments.http.keys import Keys
from tests.support.http import InProcess
from tests.support.site import Site
from tests.support.sounds import encode, noise, sweep

KEY = "secret"
SOUNDS = [encode(sweep(7.0) + 0.1 * noise(7.0, seed=seed), 22_050, "flac") for seed in range(5)]


class Counted(InProcess):
    """The service in this process; refuses some requests first, and counts those at a time."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(pipeline)
        self.n_refusals = 0
        self.n_asked = self.most_at_a_time = 0
        self._now = 0

    async def classify(self, data: bytes, options: RequestOptions) -> Prediction:
        self.n_asked += 1
        if self.n_refusals:
            self.n_refusals -= 1
            raise OverloadedError("busy", retry_after_s=1.0)
        self._now += 1
        self.most_at_a_time = max(self.most_at_a_time, self._now)
        try:
            return await asyncio.to_thread(self.pipeline.classify, data, options)
        finally:
            self._now -= 1


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint: Path) -> Pipeline:
    return Pipeline.from_folder(tiny_checkpoint)


@pytest.fixture(scope="module")
def service(pipeline: Pipeline) -> Counted:
    return Counted(pipeline)


@pytest.fixture(scope="module")
def url(service: Counted) -> Iterator[str]:
    served = Site(create_app(service, HttpConfig()))
    yield served.url
    served.stop()


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@pytest.fixture
def songs(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{i}.flac" for i in range(len(SOUNDS))]
    for path, sound in zip(paths, SOUNDS, strict=True):
        path.write_bytes(sound)
    return paths


def numbers(result: Prediction | AcousticError) -> dict[str, Any]:
    assert isinstance(result, Prediction), result
    return {k: v for k, v in result.to_dict().items() if k not in ("file", "timings_ms")}


def test_the_answer_is_that_of_the_library(client: Client, pipeline: Pipeline) -> None:
    options = {"effort": "thorough", "top_k": 4, "timeline": True}
    expected = pipeline.classify(SOUNDS[0], RequestOptions(**options))  # type: ignore[arg-type]
    found = client.classify(SOUNDS[0], **options)  # type: ignore[arg-type]
    assert numbers(found) == numbers(expected)
    assert client.labels == pipeline.postprocessor.labels_of("").names


def test_a_file_is_sent_with_its_name(client: Client, songs: list[Path]) -> None:
    assert client.classify(songs[1]).file == str(songs[1])


def test_many_come_in_order_with_errors_in_their_places(
    client: Client, service: Counted, pipeline: Pipeline, songs: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "text.mp3").write_bytes(b"no audio" * 100)
    (tmp_path / "cut.flac").write_bytes(SOUNDS[0][:3000])
    service.most_at_a_time = 0
    inputs = [*songs, tmp_path / "text.mp3", tmp_path / "none.mp3", tmp_path / "cut.flac", *songs]
    seen: list[int] = []
    found = list(client.classify_many(inputs, concurrency=3, on_progress=seen.append))
    wrong = {5: UnsupportedAudioError, 6: FileUnreadableError, 7: AudioDecodeError}
    for i, (path, result) in enumerate(zip(inputs, found, strict=True)):
        assert result.file == str(path)
        if i in wrong:
            assert type(result) is wrong[i]
        else:
            assert numbers(result) == numbers(pipeline.classify(path.read_bytes()))
    assert seen == list(range(1, len(inputs) + 1))
    assert 1 < service.most_at_a_time <= 3


def test_a_folder_is_taken_in_the_order_of_names(client: Client, songs: list[Path]) -> None:
    found = list(client.classify_many(songs[0].parent))
    assert [each.file for each in found] == [str(path) for path in songs]


def test_inputs_are_read_as_they_are_needed(client: Client, songs: list[Path]) -> None:
    asked = 0

    def endless() -> Iterator[Path]:
        nonlocal asked
        while True:
            asked += 1
            yield songs[0]

    results = client.classify_many(endless(), concurrency=2)
    assert isinstance(next(results), Prediction)
    results.close()  # type: ignore[attr-defined]
    assert asked <= 5


def test_a_refused_request_is_sent_again(client: Client, service: Counted) -> None:
    service.n_refusals, service.n_asked = 2, 0
    assert client.classify(SOUNDS[0]).top_genre
    assert service.n_asked == 3


def test_patience_ends(url: str, service: Counted) -> None:
    service.n_refusals = 99
    try:
        with Client(url, patience_s=0.5) as client, pytest.raises(OverloadedError) as raised:
            client.classify(SOUNDS[0])
    finally:
        service.n_refusals = 0
    assert raised.value.retry_after_s == 1.0


def test_an_error_that_a_retry_cannot_help_is_raised_at_once(
    client: Client, service: Counted
) -> None:
    service.n_asked = 0
    with pytest.raises(UnsupportedAudioError):
        client.classify(b"no audio")
    with pytest.raises(InvalidOptionError, match="top_k is 99, limits are 1 to 16"):
        client.classify(SOUNDS[0], top_k=99)
    with pytest.raises(InvalidOptionError, match="effort"):
        client.classify(SOUNDS[0], effort="slow")  # type: ignore[arg-type]
    assert service.n_asked == 2


def test_no_service_is_unavailable() -> None:
    with Client("http://127.0.0.1:9") as client:
        with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9 does not answer"):
            client.classify(SOUNDS[0])
        with pytest.raises(UnavailableError):
            _ = client.labels


def test_a_service_that_has_answered_before_is_waited_for(pipeline: Pipeline) -> None:
    served = Site(create_app(InProcess(pipeline), HttpConfig()))
    with Client(served.url, patience_s=1.5) as client:
        assert client.classify(SOUNDS[0]).top_genre
        served.stop()
        begun_s = time.monotonic()
        with pytest.raises(UnavailableError):
            client.classify(SOUNDS[0])
        assert time.monotonic() - begun_s >= 0.4
        with Client(served.url) as other, pytest.raises(UnavailableError):
            other.classify(SOUNDS[0])  # not after two minutes: it never was there


def test_the_key_is_sent(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Site(create_app(InProcess(pipeline), HttpConfig(), keys=Keys(KEY)))
    try:
        with Client(served.url, api_key="") as client:
            with pytest.raises(UnauthorizedError):
                client.classify(SOUNDS[0])
            with pytest.raises(UnauthorizedError):
                _ = client.labels
        monkeypatch.setenv("ACOUSTICSENSE_API_KEY", KEY)
        with Client(served.url) as client:
            assert client.classify(SOUNDS[0]).top_genre
    finally:
        served.stop()


def test_a_page_of_something_else_is_no_answer() -> None:
    async def page(request: Request) -> HTMLResponse:
        await request.body()
        return HTMLResponse("<h1>hello</h1>", int(request.query_params.get("top_k", "200")))

    served = Site(Starlette(routes=[Route("/v1/classify", page, methods=["POST"])]))
    try:
        with Client(served.url, patience_s=0) as client:
            with pytest.raises(ServiceError, match="200 and no answer"):
                client.classify(SOUNDS[0])
            with pytest.raises(UnavailableError, match="503"):
                client.classify(SOUNDS[0], top_k=503)
    finally:
        served.stop()


def test_the_asynchronous_client_does_the_same(
    url: str, service: Counted, pipeline: Pipeline, songs: list[Path]
) -> None:
    async def scenario() -> list[Prediction | AcousticError]:
        async with AsyncClient(url) as client:
            one = await client.classify(songs[0], top_k=3)
            assert len(one.predictions) == 3
            service.n_refusals = 1
            inputs = [*songs, Path("none.mp3")]
            return [each async for each in client.classify_many(inputs, concurrency=2)]

    found = asyncio.run(scenario())
    for path, result in zip(songs, found[:-1], strict=True):
        assert numbers(result) == numbers(pipeline.classify(path.read_bytes()))
    assert isinstance(found[-1], FileUnreadableError)


def test_the_command_asks_a_service(url: str, songs: list[Path], pipeline: Pipeline) -> None:
    command = [
        "classify",
        *map(str, songs),
        "none.mp3",
        "--server",
        url,
        "--json",
        "--workers",
        "2",
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["file"] for row in rows] == [*map(str, songs), "none.mp3"]
    expected = pipeline.classify(SOUNDS[2]).to_dict()
    assert rows[2]["predictions"] == expected["predictions"]
    refused = CliRunner().invoke(app, ["classify", "a.wav", "--server", url, "--content-digest"])
    assert refused.exit_code == 2
    silent = CliRunner().invoke(app, ["classify", str(songs[0]), "--server", "http://127.0.0.1:9"])
    assert silent.exit_code == 2
    assert "127.0.0.1:9 does not answer" in silent.output


@pytest.mark.parametrize("arguments", [{"timeout_s": 0}, {"patience_s": -1}])
def test_wrong_arguments(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Client(**arguments)  # type: ignore[arg-type]
    with Client() as client, pytest.raises(ValueError, match="concurrency is 0"):
        client.classify_many([], concurrency=0)
