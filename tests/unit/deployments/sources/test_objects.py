"""Objects by reference, from a real object store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from acoustic.errors import SourceNotFoundError, SourceUnavailableError
from benchmarks.s3_server import BUCKET, KEY, SECRET, S3Server
from deployments.sources.config import SourcesConfig
from deployments.sources.remote_file import HEAD_BYTES, WHOLE_BYTES
from deployments.sources.sources import Sources

pytest.importorskip("pyarrow.fs")

SHORT = b"RIFF" + bytes(96)
LONG = bytes(range(256)) * ((WHOLE_BYTES + 3 * HEAD_BYTES) // 256) + b"end"
FAR = WHOLE_BYTES + HEAD_BYTES
CONFIG = SourcesConfig(buckets=(f"s3://{BUCKET}",))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    server = S3Server(tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    (server.bucket / "short song.wav").write_bytes(SHORT)
    (server.bucket / "long.wav").write_bytes(LONG)
    yield server
    server.close()


def test_a_short_object_is_read_whole_and_a_long_one_in_parts(store: S3Server) -> None:
    async def scenario() -> None:
        sources = Sources(CONFIG, len(LONG))
        async with sources.opened(f"s3://{BUCKET}/short%20song.wav") as file:
            assert not file.in_parts
            assert await file.whole() == SHORT
        async with sources.opened(f"s3://{BUCKET}/long.wav") as file:
            assert file.in_parts
            await file.fetch([(0, 1)])
            await file.fetch([(FAR + 5, FAR + 6), (len(LONG) - 1, len(LONG))])
            data, parts = file.parts()
            for start, stop in parts.ranges:
                assert data[: stop - start] == LONG[start:stop]
                data = data[stop - start :]
            assert file.n_read_bytes < len(LONG) / 2
            assert await file.whole() == LONG

    asyncio.run(scenario())


def test_an_object_that_changes_or_is_not_there_is_an_error(store: S3Server) -> None:
    async def scenario(name: str) -> None:
        async with Sources(CONFIG, len(LONG)).opened(f"s3://{BUCKET}/{name}") as file:
            await file.fetch([(0, 1)])
            (store.bucket / name).write_bytes(LONG[:FAR] + LONG[FAR:][::-1] + b"!")
            await file.fetch([(FAR, FAR + 1)])

    with pytest.raises(SourceNotFoundError, match="does not exist"):
        asyncio.run(scenario("none.wav"))
    with pytest.raises(SourceUnavailableError, match="changed while it was read"):
        asyncio.run(scenario("long.wav"))
