"""A ranged file reads like an ordinary one, and fetches each byte at most once."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic.preprocess import ranged_file
from acoustic.preprocess.ranged_file import RangedFile
from tests.support.properties import quick

BLOCK = 16
steps = st.tuples(st.sampled_from(["read", "set", "cur", "end", "peek"]), st.integers(-50, 200))


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranged_file, "BLOCK_BYTES", BLOCK)


def stored(size: int) -> tuple[bytes, list[tuple[int, int]], Callable[[int, int], bytes]]:
    """Content of a file, the ranges that were asked for, and its fetch function."""
    content = np.random.default_rng(size).bytes(size)
    asked: list[tuple[int, int]] = []

    def fetch(start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return content[start:stop]

    return content, asked, fetch


@quick
@given(size=st.integers(0, 150), actions=st.lists(steps, max_size=15))
def test_any_reads_and_seeks_are_those_of_an_ordinary_file(
    size: int, actions: list[tuple[str, int]]
) -> None:
    content, asked, fetch = stored(size)
    file, plain = RangedFile(fetch, size), io.BytesIO(content)
    for action, n in actions:
        if action == "read":
            assert file.read(abs(n)) == plain.read(abs(n))
        elif action == "peek":
            start = abs(n)
            assert file.peek(start, start + 20) == content[start : start + 20]
        else:
            origin = {"set": 0, "cur": plain.tell(), "end": size}[action]
            whence = {"set": io.SEEK_SET, "cur": io.SEEK_CUR, "end": io.SEEK_END}[action]
            assert file.seek(n, whence) == plain.seek(max(0, origin + n))
        assert file.tell() == plain.tell()
    fetched = [byte for start, stop in asked for byte in range(start, stop)]
    assert len(fetched) == len(set(fetched)) == file.fetched_bytes


@quick
@given(size=st.integers(1, 150), spans=st.lists(st.integers(0, 150), max_size=5))
def test_the_whole_fetches_only_what_is_missing(size: int, spans: list[int]) -> None:
    content, asked, fetch = stored(size)
    file = RangedFile(fetch, size)
    for start in spans:
        file.require(start, start + 10)
    assert file.whole() == content
    fetched = [byte for start, stop in asked for byte in range(start, stop)]
    assert sorted(fetched) == list(range(size))


def test_adjacent_missing_blocks_are_one_request() -> None:
    _, asked, fetch = stored(10 * BLOCK)
    file = RangedFile(fetch, 10 * BLOCK)
    file.require(3 * BLOCK, 4 * BLOCK)
    file.require(1, 6 * BLOCK - 1)
    assert asked == [(3 * BLOCK, 4 * BLOCK), (0, 3 * BLOCK), (4 * BLOCK, 6 * BLOCK)]


def test_the_last_block_ends_with_the_file() -> None:
    _, asked, fetch = stored(BLOCK + 3)
    file = RangedFile(fetch, BLOCK + 3)
    assert len(file.peek(BLOCK, 10 * BLOCK)) == 3
    assert asked == [(BLOCK, BLOCK + 3)]


def test_the_error_of_a_failed_read_is_kept_and_a_later_read_tries_again() -> None:
    content, _, fetch = stored(2 * BLOCK)
    error, is_down = ConnectionError("no answer"), [True]

    def failing(start: int, stop: int) -> bytes:
        if is_down[0]:
            raise error
        return fetch(start, stop)

    file = RangedFile(failing, 2 * BLOCK)
    with pytest.raises(ConnectionError):
        file.read(5)
    assert file.failure is error
    assert (file.tell(), file.fetched_bytes) == (0, 0)
    is_down[0] = False
    assert file.read(5) == content[:5]


def test_it_is_a_readable_and_seekable_binary_file() -> None:
    file = RangedFile(stored(8)[2], 8)
    assert file.readable()
    assert file.seekable()
    assert not file.writable()
    assert len(io.BufferedReader(file).read()) == 8
