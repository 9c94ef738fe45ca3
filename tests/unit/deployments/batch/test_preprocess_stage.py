"""First stage of a batch job, called directly: features equal the library's, errors stay rows."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.content_cache import unsealed
from acoustic.errors import (
    AcousticError,
    AudioDecodeError,
    SourceForbiddenError,
    SourceUnavailableError,
)
from acoustic.preprocess.cache import features_from_bytes
from acoustic.preprocess.preprocessor import Preprocessor
from acoustic.preprocess.ranged_file import RangedFile
from acoustic.request import Effort, RequestOptions
from acoustic.types import TrackFeatures
from deployments.batch import backoff
from deployments.batch.job_options import JobOptions
from deployments.batch.preprocess_stage import PreprocessStage
from deployments.batch.schema import COSTS, FEATURES
from deployments.batch.source_file import SourceFile
from deployments.config import ServiceConfig
from tests.support.chunks import file_table, rows_of, sound_in_first_round, write_files
from tests.support.sounds import encode, noise, sweep, tone

WAV = encode(sweep(40.0), 22_050)
LONG_WAV = encode(sweep(120.0, 44_100), 44_100)
JUNK = {
    "junk.mp3": (b"not audio " * 50, "unsupported_audio"),
    "empty.wav": (b"", "invalid_request"),
    "cut.wav": (WAV[:30], "audio_decode_failed"),
    "short.wav": (encode(tone(440, 0.3), 22_050), "audio_too_short"),
    "silent.wav": (encode(0 * noise(9.0), 22_050), "silent_audio"),
}
OPTIONS = JobOptions(sources=("/songs",), out="/out", read_threads=2)


@pytest.fixture(scope="module")
def preprocessor(tiny_checkpoint: Path) -> Preprocessor:
    return Preprocessor.from_folder(CheckpointFolder.open(tiny_checkpoint))


@pytest.fixture
def make(tiny_checkpoint: Path) -> Any:
    def stage(effort: Effort = "balanced", **changes: Any) -> PreprocessStage:
        options = replace(OPTIONS, request=RequestOptions(effort=effort), **changes)
        return PreprocessStage(tiny_checkpoint, ServiceConfig(), options)

    return stage


def features_of(table: pa.Table, i: int) -> list[TrackFeatures]:
    digest = table["content_blake3"][i].as_py()
    contents = [unsealed(each) for each in table["rounds"][i].as_py()]
    return [features_from_bytes(each, digest) for each in contents if each is not None]


def check_same(found: TrackFeatures, expected: TrackFeatures) -> None:
    np.testing.assert_array_equal(found.log_mel, expected.log_mel)
    assert replace(found.facts, cached=False) == expected.facts


@pytest.mark.parametrize(
    ("effort", "n_rounds"), [("fast", 1), ("balanced", 1), ("thorough", 1), ("auto", 3)]
)
def test_features_are_those_of_the_library(
    make: Any, preprocessor: Preprocessor, tmp_path: Path, effort: Effort, n_rounds: int
) -> None:
    contents = {"a.wav": WAV, "b.flac": encode(noise(35.0), 22_050, "flac")}
    table = make(effort)(file_table(write_files(tmp_path, contents)))
    for i, data in enumerate(contents.values()):
        rounds = features_of(table, i)
        assert len(rounds) == n_rounds
        for number, found in enumerate(rounds):
            check_same(found, preprocessor.process(data, effort, number))


def test_rows_say_where_a_file_is_and_what_it_cost(make: Any, tmp_path: Path) -> None:
    files = write_files(tmp_path, {"a.wav": WAV})
    (row,) = rows_of(make()(file_table([replace(files[0], extras={"label": "007"})])))
    assert row.keys() == {"id", "uri", "size_bytes", "etag", "label", "read_bytes", "preprocess_s"}
    assert row["id"] == files[0].id
    assert row["size_bytes"] == row["read_bytes"] == len(WAV)
    assert row["preprocess_s"] > 0
    assert set(row) & set(COSTS) == {"read_bytes", "preprocess_s"}


@pytest.mark.parametrize("read", ["whole", "ranged"])
def test_a_broken_file_is_a_row_and_the_others_are_processed(
    make: Any, tmp_path: Path, read: str
) -> None:
    contents = {name: content for name, (content, _) in JUNK.items()}
    files = write_files(tmp_path, {"first.wav": WAV, **contents, "last.wav": WAV})
    files.insert(1, SourceFile(uri=str(tmp_path / "gone.wav"), size_bytes=5))
    table = make(read=read)(file_table(files))
    rows = rows_of(table)
    assert [row["uri"] for row in rows] == [file.uri for file in files], "order is kept"
    codes = ["", "source_not_found", *(code for _, code in JUNK.values()), ""]
    assert [row.get("error_code", "") for row in rows] == codes
    assert [bool(each) for each in table["rounds"].to_pylist()] == [not code for code in codes]
    assert [row["size_bytes"] for row in rows] == [file.size_bytes for file in files]


def test_a_chunk_of_broken_files_only_keeps_its_schema(make: Any, tmp_path: Path) -> None:
    files = write_files(tmp_path, {name: content for name, (content, _) in JUNK.items()})
    table = make()(file_table(files))
    assert table.schema == FEATURES
    assert table["rounds"].to_pylist() == [[]] * len(JUNK)
    assert table["content_blake3"].to_pylist() == [""] * len(JUNK)


def test_a_bug_is_an_error_of_its_file_without_details(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Preprocessor.process

    def fail(self: Preprocessor, data: bytes, *arguments: Any) -> TrackFeatures:
        if data != WAV:
            raise KeyError("/home/secret")
        return process(self, data, *arguments)

    monkeypatch.setattr(Preprocessor, "process", fail)
    files = write_files(tmp_path, {"bug.wav": LONG_WAV, "b.wav": WAV})
    failed, good = rows_of(make()(file_table(files)))
    assert failed["error_code"] == "service_error"
    assert failed["error_message"] == "preprocessing failed on this file"
    assert failed["read_bytes"] == len(LONG_WAV)
    assert "error_code" not in good


@pytest.mark.parametrize("read", ["whole", "ranged"])
def test_a_silent_rest_of_a_track_leaves_the_rounds_before(
    make: Any, preprocessor: Preprocessor, tmp_path: Path, read: str
) -> None:
    data = sound_in_first_round(preprocessor.config.mel.window_s, 120.0)
    table = make("auto", read=read)(file_table(write_files(tmp_path, {"a.wav": data})))
    (found,) = features_of(table, 0)
    np.testing.assert_array_equal(found.log_mel, preprocessor.process(data, "auto", 0).log_mel)
    assert found.facts.n_remaining == 7


def test_a_damaged_rest_of_a_track_leaves_the_rounds_before(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Preprocessor.process

    def fail(self: Preprocessor, data: bytes, effort: Effort, number: int) -> TrackFeatures:
        if number == 1:
            raise AudioDecodeError("damaged")
        return process(self, data, effort, number)

    monkeypatch.setattr(Preprocessor, "process", fail)
    table = make("auto")(file_table(write_files(tmp_path, {"a.wav": WAV})))
    assert len(features_of(table, 0)) == 1
    assert "error_code" not in rows_of(table)[0]


def test_ranges_give_the_same_features_from_fewer_bytes(
    make: Any, preprocessor: Preprocessor, tmp_path: Path
) -> None:
    table = make("fast", read="ranged")(file_table(write_files(tmp_path, {"a.wav": LONG_WAV})))
    (found,) = features_of(table, 0)
    expected = preprocessor.process(LONG_WAV, "fast")
    check_same(found, replace(expected, facts=replace(expected.facts, content_blake3="")))
    (row,) = rows_of(table)
    assert row["size_bytes"] == len(LONG_WAV)
    assert row["read_bytes"] < len(LONG_WAV) / 10


@pytest.mark.parametrize("is_right", [True, False])
def test_a_checksum_is_verified_on_the_whole_file(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_right: bool
) -> None:
    monkeypatch.setattr(backoff.time, "sleep", lambda wait_s: None)
    sha256 = hashlib.sha256(LONG_WAV).hexdigest()
    (file,) = write_files(tmp_path, {"a.wav": LONG_WAV})
    stated = replace(file, checksums={"sha256": sha256 if is_right else "0" * 64})
    stage = make("fast", read="ranged")
    stage._reader.open_ranged = None  # fails if it is called
    table = stage(file_table([stated]))
    (row,) = rows_of(table)
    assert row.get("error_code", "") == ("" if is_right else "source_corrupt")
    assert row["read_bytes"] == (len(LONG_WAV) if is_right else 0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("cls", [SourceUnavailableError, SourceForbiddenError])
def test_a_store_that_fails_between_two_ranges_is_the_reason(
    make: Any, cls: type[AcousticError]
) -> None:
    """A decoder takes a failed read for the end of the file; the row must name the store.

    The file is not read again as a whole: `fetch` would succeed the second time. The decoder also
    reports the exception that it cannot pass on, hence the filter.
    """
    stage = make("fast", read="ranged")
    left = [cls("the store failed at s3://bucket/a.wav")]

    def fetch(start: int, stop: int) -> bytes:
        if start > 100_000 and left:
            raise left.pop()
        return LONG_WAV[start:stop]

    stage._reader.open_ranged = lambda file: (RangedFile(fetch, len(LONG_WAV)), "v1")
    (row,) = rows_of(stage(file_table([SourceFile(uri="s3://bucket/a.wav")])))
    assert row["error_code"] == cls.code
    assert row["error_message"] == "the store failed at s3://bucket/a.wav"
    assert row["etag"] == "v1"
    assert 0 < row["read_bytes"] < len(LONG_WAV)
