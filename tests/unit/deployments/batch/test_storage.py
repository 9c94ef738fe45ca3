"""File systems by URI, atomic writes and the errors of stores, without any store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import fs

from acoustic.errors import (
    AcousticError,
    SourceForbiddenError,
    SourceNotFoundError,
    SourceUnavailableError,
)
from deployments.batch import backoff
from deployments.batch.backoff import N_TRIES
from deployments.batch.storage import (
    CHECKSUM_VARIABLES,
    StorageOptions,
    as_source_error,
    open_filesystem,
    split_scheme,
    translating_store_errors,
    write_atomically,
)
from tests.support.stores import FakeStore


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://bucket/key", ("s3", "bucket/key")),
        ("S3://bucket/Key", ("s3", "bucket/Key")),
        ("file:///songs/a.wav", ("file", "/songs/a.wav")),
        ("/songs/a.wav", ("", "/songs/a.wav")),
        ("songs/a:b.wav", ("", "songs/a:b.wav")),
        ("s3://bucket/a://b", ("s3", "bucket/a://b")),
        ("", ("", "")),
    ],
)
def test_schemes(uri: str, expected: tuple[str, str]) -> None:
    assert split_scheme(uri) == expected


def test_local_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for uri in ("songs/a.wav", f"{tmp_path}/songs/a.wav", f"file://{tmp_path}/songs/a.wav"):
        filesystem, path = open_filesystem(uri, StorageOptions())
        assert isinstance(filesystem, fs.LocalFileSystem)
        assert path == str(tmp_path / "songs" / "a.wav")


@pytest.fixture
def s3_settings(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Arguments of every S3 client that is opened; the environment names no store."""
    for name in ("AWS_ENDPOINT_URL", "AWS_REGION", *CHECKSUM_VARIABLES):
        monkeypatch.setenv(name, "")  # restored after the test, whatever sets it
        monkeypatch.delenv(name)
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(fs, "S3FileSystem", lambda **settings: found.append(settings))
    return found


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ({}, {}, (None, "https", None)),
        ({}, {"AWS_REGION": "eu-west-1"}, (None, "https", "eu-west-1")),
        ({"region": "a"}, {"AWS_REGION": "b"}, (None, "https", "a")),
        ({"endpoint": "http://host:9000"}, {}, ("host:9000", "http", "auto")),
        ({}, {"AWS_ENDPOINT_URL": "https://host"}, ("host", "https", "auto")),
        (
            {"endpoint": "http://own:1"}, {"AWS_ENDPOINT_URL": "https://other"},
            ("own:1", "http", "auto"),
        ),
    ],
)  # fmt: skip
def test_options_come_before_the_environment(
    s3_settings: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, str],
    environment: dict[str, str],
    expected: tuple[str | None, str, str | None],
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    _, path = open_filesystem("s3://bucket/key", StorageOptions(**options))  # type: ignore[arg-type]
    (settings,) = s3_settings
    assert path == "bucket/key"
    assert tuple(settings[n] for n in ("endpoint_override", "scheme", "region")) == expected


def test_checksum_trailers_are_sent_where_required_only(
    s3_settings: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CHECKSUM_VARIABLES[0], "when_supported")
    open_filesystem("s3://bucket", StorageOptions(anonymous=True, timeout_s=7.0))
    assert [os.environ[n] for n in CHECKSUM_VARIABLES] == ["when_supported", "when_required"]
    assert s3_settings[0]["anonymous"] is True
    assert s3_settings[0]["request_timeout"] == 7.0


def test_a_written_file_is_complete_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "part.csv"
    for content in (b"first" * 1000, b"second"):
        write_atomically(fs.LocalFileSystem(), str(path), content)
        assert path.read_bytes() == content
        assert os.listdir(path.parent) == ["part.csv"], "no temporary file is left"


@pytest.mark.parametrize(
    ("error", "expected"),
    [(OSError(28, "No space left"), SourceUnavailableError),
     (PermissionError(13, "denied"), SourceForbiddenError)],
)  # fmt: skip
def test_a_failed_write_leaves_what_was_there(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    expected: type[AcousticError],
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    path = tmp_path / "part.csv"
    path.write_bytes(b"before")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(expected, match=r"part\.csv"):
        write_atomically(fs.LocalFileSystem(), str(path), b"after")
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["part.csv"]


def test_uploads_are_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    waits_s: list[float] = []
    monkeypatch.setattr(backoff.time, "sleep", waits_s.append)
    store = FakeStore(b"", lambda number: OSError("reset") if number < 2 else None)
    write_atomically(store, "bucket/part.csv", b"rows")
    assert store.written == {"bucket/part.csv": b"rows"}
    assert len(waits_s) == 2
    store = FakeStore(b"", lambda number: OSError("reset"))
    with pytest.raises(SourceUnavailableError, match=r"the store failed at bucket/part\.csv"):
        write_atomically(store, "bucket/part.csv", b"rows")
    assert store.n_requests == N_TRIES


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileNotFoundError("x"), SourceNotFoundError),
        (OSError("AWS Error NO_SUCH_KEY during GetObject"), SourceNotFoundError),
        (OSError("code: 1, HTTP status 404"), SourceNotFoundError),
        (IsADirectoryError("x"), SourceNotFoundError),
        (PermissionError("x"), SourceForbiddenError),
        (OSError("AWS Error ACCESS_DENIED during GetObject"), SourceForbiddenError),
        (OSError("HTTP status 403"), SourceForbiddenError),
        (OSError("AWS Error SLOW_DOWN, HTTP status 503"), SourceUnavailableError),
        (TimeoutError("x"), SourceUnavailableError),
        (ConnectionResetError("x"), SourceUnavailableError),
    ],
    ids=repr,
)
def test_errors_of_a_store_name_the_file_and_no_secret(
    error: OSError, expected: type[AcousticError]
) -> None:
    error.args = (*error.args[:-1], f"{error.args[-1]} AKIA-KEY")
    found = as_source_error(error, "s3://bucket/a.wav")
    assert type(found) is expected
    assert "s3://bucket/a.wav" in found.message
    assert "AKIA-KEY" not in found.message


@pytest.mark.parametrize("error", [pa.ArrowInvalid("empty path component"), ValueError("null")])
def test_a_path_that_no_store_can_have_is_not_found(error: Exception) -> None:
    with (
        pytest.raises(SourceNotFoundError, match="not a valid path") as raised,
        translating_store_errors("s3://bucket//a"),
    ):
        raise error
    assert raised.value.__cause__ is error


def test_other_errors_pass_through() -> None:
    for error in (SourceNotFoundError("ours"), KeyError("bug")):
        with pytest.raises(type(error)) as raised, translating_store_errors("/a"):
            raise error
        assert raised.value is error
