"""Reading ahead: order, bounds, checks of what was read, and which failures are retried."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from acoustic.errors import AcousticError, SourceForbiddenError, SourceUnavailableError
from deployments.batch import backoff
from deployments.batch.backoff import N_TRIES
from deployments.batch.listing import list_files
from deployments.batch.reader import Reader
from deployments.batch.source_file import SourceFile
from deployments.batch.storage import StorageOptions
from tests.support.chunks import write_files
from tests.support.stores import FakeStore

CONTENT = bytes(range(256)) * 300
WAIT_S = 20.0
"""Longest wait on a condition before a test fails."""


@pytest.fixture(autouse=True)
def waits_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of every wait between retries, none of which happens."""
    found: list[float] = []
    monkeypatch.setattr(backoff.time, "sleep", found.append)
    return found


def reader(n_threads: int = 2, max_file_bytes: int = 1 << 20) -> Reader:
    return Reader(StorageOptions(), n_threads, max_file_bytes)


def files(n: int) -> list[SourceFile]:
    return [SourceFile(uri=f"/songs/{i}.wav") for i in range(n)]


def test_files_come_in_order_with_their_bytes(tmp_path: Path) -> None:
    contents = {f"{i}.wav": bytes([i]) * (1000 - 10 * i) for i in range(20)}
    listed = write_files(tmp_path, contents)
    found = list(reader(4).read(listed))
    assert [each.file for each in found] == listed
    assert [each.data for each in found] == list(contents.values())
    assert all(each.error is None and each.etag == "" for each in found)


def test_a_later_file_that_is_ready_first_waits_for_its_turn() -> None:
    second_is_done = threading.Event()

    def work(file: SourceFile) -> str:
        if file.uri.endswith("/0.wav"):
            assert second_is_done.wait(WAIT_S)
        else:
            second_is_done.set()
        return file.uri

    listed = files(4)
    assert list(reader(2).each(listed, work)) == [file.uri for file in listed]


def test_reads_run_in_parallel() -> None:
    together = threading.Barrier(3, timeout=WAIT_S)
    results = reader(3).each(files(3), lambda file: together.wait())
    assert sorted(results) == [0, 1, 2]


@pytest.mark.parametrize("n_threads", [1, 3])
def test_a_slow_consumer_holds_the_reads_back(n_threads: int) -> None:
    started: list[str] = []

    def work(file: SourceFile) -> str:
        started.append(file.uri)
        return file.uri

    results = reader(n_threads).each(files(20), work)
    for n_taken, _ in enumerate(results, start=1):
        assert len(started) <= n_taken + n_threads - 1
    assert len(started) == 20


def test_no_file_at_all_is_no_work() -> None:
    assert list(reader().read([])) == []


def test_one_missing_file_does_not_stop_the_others(tmp_path: Path, waits_s: list[float]) -> None:
    listed = write_files(tmp_path, {"a.wav": b"a", "b.wav": b"b"})
    listed.insert(1, SourceFile(uri=str(tmp_path / "gone.wav")))
    codes = [each.error.code if each.error else "" for each in reader().read(listed)]
    assert codes == ["", "source_not_found", ""]
    assert waits_s == [], "a missing file is not retried"


def test_file_uris_are_read_as_local_paths(tmp_path: Path) -> None:
    write_files(tmp_path, {"a b.wav": b"sound"})
    fetched = reader().fetch(SourceFile(uri=f"file://{tmp_path}/a b.wav"))
    assert fetched.data == b"sound"


@pytest.mark.parametrize("name", ["sha256", "md5"])
def test_content_with_the_stated_checksum_is_accepted(tmp_path: Path, name: str) -> None:
    (file,) = write_files(tmp_path, {"a.wav": CONTENT})
    stated = {name: hashlib.new(name, CONTENT).hexdigest()}
    fetched = reader().fetch(SourceFile(uri=file.uri, checksums=stated))
    assert (fetched.data, fetched.error) == (CONTENT, None)


@pytest.mark.parametrize("name", ["sha256", "md5"])
def test_one_changed_bit_is_noticed(tmp_path: Path, name: str, waits_s: list[float]) -> None:
    stated = {name: hashlib.new(name, CONTENT).hexdigest()}
    damaged = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    (file,) = write_files(tmp_path, {"a.wav": damaged})
    fetched = reader().fetch(SourceFile(uri=file.uri, checksums=stated))
    assert fetched.error is not None
    assert fetched.error.code == "source_corrupt"
    assert f"the manifest says {stated[name]}" in fetched.error.message
    assert fetched.data == b""
    assert len(waits_s) == N_TRIES - 1, "the transfer may be at fault, so it is retried"


@pytest.mark.parametrize("change", [-1, 1])
def test_a_file_of_another_size_than_listed_is_corrupt(tmp_path: Path, change: int) -> None:
    (file,) = write_files(tmp_path, {"a.wav": CONTENT})
    stated = SourceFile(uri=file.uri, size_bytes=len(CONTENT) + change)
    error = reader().fetch(stated).error
    assert error is not None
    assert error.code == "source_corrupt"
    assert error.message == (
        f"{file.uri} has {len(CONTENT)} bytes, the listing says {len(CONTENT) + change}"
    )


def store_reader(monkeypatch: pytest.MonkeyPatch, store: FakeStore, limit: int = 1 << 20) -> Reader:
    monkeypatch.setattr("deployments.batch.reader.open_filesystem", lambda uri, _: (store, uri))
    return reader(max_file_bytes=limit)


SONG = SourceFile(uri="s3://bucket/song.wav")


def outage(number: int) -> OSError:
    return OSError("AWS Error NETWORK_CONNECTION")


Fault = Callable[[int], Exception | bytes | None]
FAULTS: dict[str, Fault] = {"error": outage, "short": lambda number: CONTENT[:100]}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_read_that_fails_once_is_repeated(
    monkeypatch: pytest.MonkeyPatch, waits_s: list[float], fault: Fault
) -> None:
    store = FakeStore(CONTENT, lambda number: fault(number) if number == 0 else None, etag="v7")
    fetched = store_reader(monkeypatch, store).fetch(SONG)
    assert (fetched.data, fetched.etag, fetched.error) == (CONTENT, "v7", None)
    assert store.opened == ["bucket/song.wav"] * 2
    assert len(waits_s) == 1


def test_a_short_read_is_never_taken_for_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FakeStore(CONTENT, FAULTS["short"])
    fetched = store_reader(monkeypatch, store).fetch(SONG)
    assert isinstance(fetched.error, SourceUnavailableError)
    assert fetched.error.message == f"{SONG.uri} ended after 100 of {len(CONTENT)} bytes"
    assert fetched.data == b""
    assert store.n_requests == N_TRIES


def test_denied_access_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FakeStore(CONTENT, lambda number: PermissionError("ACCESS_DENIED"))
    fetched = store_reader(monkeypatch, store).fetch(SONG)
    assert isinstance(fetched.error, SourceForbiddenError)
    assert store.n_requests == 1


@pytest.mark.parametrize("is_ranged", [False, True])
def test_a_file_above_the_limit_is_not_read(
    monkeypatch: pytest.MonkeyPatch, is_ranged: bool
) -> None:
    store = FakeStore(CONTENT)
    small = store_reader(monkeypatch, store, limit=len(CONTENT) - 1)
    if is_ranged:
        with pytest.raises(AcousticError) as raised:
            small.open_ranged(SONG)
        error: AcousticError | None = raised.value
    else:
        error = small.fetch(SONG).error
    assert error is not None
    assert error.code == "upload_too_large"
    assert f"limit is {len(CONTENT) - 1} bytes" in error.message
    assert store.n_requests == 0
    assert store_reader(monkeypatch, store, limit=len(CONTENT)).fetch(SONG).error is None


def test_a_ranged_file_reads_only_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FakeStore(CONTENT, etag="v7")
    file, etag = store_reader(monkeypatch, store).open_ranged(SONG)
    assert (file.size_bytes, file.fetched_bytes, etag) == (len(CONTENT), 0, "v7")
    assert file.peek(100, 110) == CONTENT[100:110]
    assert 10 <= file.fetched_bytes < len(CONTENT) / 2
    assert file.whole() == CONTENT


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_range_that_fails_once_is_repeated(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    store = FakeStore(CONTENT, lambda number: fault(number) if number == 0 else None)
    file, _ = store_reader(monkeypatch, store).open_ranged(SONG)
    assert file.peek(0, 10) == CONTENT[:10]
    assert store.n_requests == 2


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_range_that_always_fails_is_an_error(
    monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    store = FakeStore(CONTENT, fault)
    file, _ = store_reader(monkeypatch, store).open_ranged(SONG)
    with pytest.raises(SourceUnavailableError, match=r"s3://bucket/song\.wav"):
        file.peek(0, 10)
    assert store.n_requests == N_TRIES
    assert file.fetched_bytes == 0


def test_a_ranged_file_of_another_size_is_corrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    stated = SourceFile(uri=SONG.uri, size_bytes=5)
    with pytest.raises(AcousticError, match="the listing says 5"):
        store_reader(monkeypatch, FakeStore(CONTENT)).open_ranged(stated)


def test_every_scheme_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def open_once(uri: str, options: StorageOptions) -> tuple[FakeStore, str]:
        opened.append(uri)
        return FakeStore(CONTENT), uri

    monkeypatch.setattr("deployments.batch.reader.open_filesystem", open_once)
    both: Iterator[SourceFile] = (
        SourceFile(uri=f"{scheme}://bucket/{i}") for scheme in ("s3", "gs") for i in range(5)
    )
    list(reader(1).read(list(both)))
    assert opened == ["s3://bucket/0", "gs://bucket/0"]


def test_a_pipe_is_an_error_and_holds_nobody(tmp_path: Path) -> None:
    (listed,) = write_files(tmp_path, {"a.wav": CONTENT})
    os.mkfifo(tmp_path / "pipe.wav")
    pipe = SourceFile(uri=str(tmp_path / "pipe.wav"))
    first, second = reader().read([pipe, listed])
    assert first.error is not None
    assert first.error.code == "source_not_found"
    assert "is not a regular file" in first.error.message
    assert second.data == CONTENT


def test_a_local_file_that_hangs_is_an_error_after_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (listed,) = write_files(tmp_path, {"a.wav": CONTENT})
    never = threading.Event()
    hanging = Reader(StorageOptions(timeout_s=0.01), 1, 1 << 20)
    monkeypatch.setattr(Reader, "_read_local", lambda *_: never.wait())
    (found,) = hanging.read([listed])
    never.set()
    assert found.error is not None
    assert found.error.code == "source_unavailable"
    assert "was not read within 0.01 s" in found.error.message


def test_a_file_of_the_same_size_that_changed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(CONTENT)
    (listed,) = list_files([str(tmp_path)], StorageOptions()).files
    (found,) = reader().read([listed])
    assert found.data == CONTENT
    path.write_bytes(CONTENT[::-1])
    os.utime(path, ns=(1, listed.mtime_ns + 1))
    (found,) = reader().read([listed])
    assert found.error is not None
    assert found.error.code == "source_corrupt"
    assert "has changed since it was listed" in found.error.message
