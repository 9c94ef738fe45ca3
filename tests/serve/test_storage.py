"""Listing, reading and writing on a real S3 server, with injected faults."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acoustic.errors import (
    ConfigError,
    SourceCorruptError,
    SourceForbiddenError,
    SourceNotFoundError,
    SourceUnavailableError,
    UploadTooLargeError,
)
from benchmarks.s3_server import BUCKET, FaultProxy, S3Server
from deployments.batch import backoff
from deployments.batch.listing import list_files
from deployments.batch.reader import Fetched, Reader
from deployments.batch.source_file import SourceFile
from deployments.batch.storage import StorageOptions, open_filesystem, write_atomically

CONTENT = bytes(range(256)) * 400
URI = f"s3://{BUCKET}/a.wav"


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultProxy]:
    (s3.bucket / "a.wav").write_bytes(CONTENT)
    found = FaultProxy(s3)
    yield found
    found.close()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_WAIT_S", 0.001)


Read = Callable[..., Fetched]


@pytest.fixture
def read(proxy: FaultProxy) -> Read:
    def one(uri: str = URI, max_file_bytes: int = 1 << 20, **fields: object) -> Fetched:
        options = StorageOptions(endpoint=proxy.endpoint, region="us-east-1", timeout_s=2.0)
        (found,) = Reader(options, 2, max_file_bytes).read([SourceFile(uri=uri, **fields)])
        return found

    return one


def test_a_file_has_its_bytes_and_the_stores_name_for_them(read: Read) -> None:
    found = read()
    assert found.error is None
    assert found.data == CONTENT
    assert found.etag == hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("fault", ["503", "reset", "truncate", "hang"])
def test_what_passes_is_tried_again(read: Read, proxy: FaultProxy, fault: str) -> None:
    proxy.fault = lambda method, path, count: (
        fault if method == "GET" and path.endswith("a.wav") and count < 2 else ""
    )
    found = read()
    assert found.error is None
    assert found.data == CONTENT
    assert proxy.seen["GET", f"/{BUCKET}/a.wav"] == 3


@pytest.mark.parametrize("fault", ["503", "reset", "truncate"])
def test_what_stays_is_an_error_of_the_file(read: Read, proxy: FaultProxy, fault: str) -> None:
    proxy.fault = lambda method, path, count: fault if method == "GET" else ""
    found = read()
    assert isinstance(found.error, SourceUnavailableError)
    assert found.data == b""


@pytest.mark.parametrize(
    ("fault", "expected"), [("403", SourceForbiddenError), ("404", SourceNotFoundError)]
)
def test_what_is_final_is_not_tried_again(
    read: Read, proxy: FaultProxy, fault: str, expected: type[Exception]
) -> None:
    proxy.fault = lambda method, path, count: fault
    assert isinstance(read().error, expected)
    assert sum(proxy.seen.values()) == 1


def test_a_missing_object_is_not_found(read: Read) -> None:
    found = read(uri=f"s3://{BUCKET}/gone.wav")
    assert isinstance(found.error, SourceNotFoundError)


def test_a_changed_byte_is_seen_where_a_checksum_is_given(read: Read, proxy: FaultProxy) -> None:
    checksums = {"sha256": hashlib.sha256(CONTENT).hexdigest()}
    assert read(checksums=checksums).error is None
    proxy.fault = lambda method, path, count: "corrupt" if method == "GET" else ""
    assert isinstance(read(checksums=checksums).error, SourceCorruptError)
    proxy.forget()
    proxy.fault = lambda method, path, count: "corrupt" if method == "GET" and not count else ""
    assert read(checksums=checksums).data == CONTENT


def test_sizes_are_held_to_what_was_listed_and_allowed(read: Read) -> None:
    assert isinstance(read(size_bytes=5).error, SourceCorruptError)
    assert isinstance(read(max_file_bytes=10).error, UploadTooLargeError)


def test_an_object_that_was_replaced_after_the_listing_is_an_error(s3: S3Server) -> None:
    """Of the same size: the size alone would not tell."""
    path = s3.bucket / "replaced.wav"
    path.write_bytes(CONTENT)
    options = StorageOptions(endpoint=s3.endpoint, region="us-east-1")
    files = list_files([f"s3://{BUCKET}/replaced.wav"], options).files
    reader = Reader(options, 1, 1 << 20)
    (found,) = reader.read(files)
    assert found.data == CONTENT
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 60))
    (found,) = reader.read(files)
    assert isinstance(found.error, SourceCorruptError)
    assert "has changed since it was listed" in found.error.message
    with pytest.raises(SourceCorruptError):
        reader.open_ranged(files[0])


def test_many_files_come_in_order(s3: S3Server) -> None:
    for i in range(40):
        (s3.bucket / f"many-{i:02}.wav").write_bytes(bytes([i]) * (1 + i))
    options = StorageOptions(endpoint=s3.endpoint, region="us-east-1")
    files = list_files([f"s3://{BUCKET}/many-*.wav"], options).files
    found = list(Reader(options, 4, 100).read(files))
    assert [each.data for each in found] == [bytes([i]) * (1 + i) for i in range(40)]


def test_a_prefix_is_listed_with_sizes_and_without_other_files(s3: S3Server) -> None:
    folder = s3.bucket / "list" / "deep"
    folder.mkdir(parents=True)
    for name in ("list/b.mp3", "list/deep/a.FLAC", "list/notes.txt"):
        (s3.bucket / name).write_bytes(b"x" * len(name))
    options = StorageOptions(endpoint=s3.endpoint, region="us-east-1")
    files = list_files([f"s3://{BUCKET}/list"], options).files
    assert {file.uri: file.size_bytes for file in files} == {
        f"s3://{BUCKET}/list/b.mp3": 10,
        f"s3://{BUCKET}/list/deep/a.FLAC": 16,
    }
    with pytest.raises(ConfigError, match="does not exist"):
        list_files([f"s3://{BUCKET}/nothing"], options)


def test_a_wrong_secret_is_one_clear_error(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    options = StorageOptions(endpoint=s3.endpoint, region="us-east-1")
    with pytest.raises(ConfigError, match="the store denies access"):
        list_files([f"s3://{BUCKET}"], options)


def test_a_written_object_is_whole(s3: S3Server, tmp_path: Path) -> None:
    options = StorageOptions(endpoint=s3.endpoint, region="us-east-1")
    for uri in (f"s3://{BUCKET}/out/part", str(tmp_path / "out" / "part")):
        filesystem, path = open_filesystem(uri, options)
        write_atomically(filesystem, path, CONTENT)
        write_atomically(filesystem, path, CONTENT[:10])
        with filesystem.open_input_stream(path) as stream:
            assert stream.read() == CONTENT[:10]
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["part"]


@pytest.mark.parametrize("fault", ["503", "reset", "hang"])
def test_an_upload_is_tried_again(s3: S3Server, proxy: FaultProxy, fault: str) -> None:
    proxy.fault = lambda method, path, count: fault if method == "PUT" and count < 2 else ""
    options = StorageOptions(endpoint=proxy.endpoint, region="us-east-1", timeout_s=2.0)
    filesystem, path = open_filesystem(f"s3://{BUCKET}/up/{fault}", options)
    write_atomically(filesystem, path, CONTENT)
    assert (s3.bucket / "up" / fault).read_bytes() == CONTENT
    assert proxy.seen["PUT", f"/{BUCKET}/up/{fault}"] == 3


def test_a_store_that_takes_nothing_is_one_clear_error(s3: S3Server, proxy: FaultProxy) -> None:
    proxy.fault = lambda method, path, count: "403" if method == "PUT" else ""
    options = StorageOptions(endpoint=proxy.endpoint, region="us-east-1")
    filesystem, path = open_filesystem(f"s3://{BUCKET}/closed", options)
    with pytest.raises(SourceForbiddenError, match="the store denies access"):
        write_atomically(filesystem, path, CONTENT)
