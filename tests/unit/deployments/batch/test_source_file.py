"""A file of a batch job: its id follows from its URI alone and never changes."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, asdict

import pytest

from deployments.batch.source_file import UNKNOWN_SIZE, SourceFile


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://bucket/a.wav", "4ba3dc02f060e08f"),
        ("/songs/Björk – Jóga.mp3", "20c7d02e6ae9c661"),
    ],
)
def test_an_id_is_that_of_outputs_written_before(uri: str, expected: str) -> None:
    """A resumed job finds its finished files by these ids, so they may not change."""
    assert SourceFile(uri=uri).id == expected


def test_only_the_uri_counts_for_the_id() -> None:
    plain = SourceFile(uri="/a.wav")
    described = SourceFile(
        uri="/a.wav", size_bytes=5, checksums={"md5": "00"}, extras={"label": "x"}
    )
    assert plain.id == described.id
    assert plain != described


def test_ids_of_many_files_differ() -> None:
    assert len({SourceFile(uri=f"s3://bucket/{i}.wav").id for i in range(10_000)}) == 10_000


def test_a_file_survives_json() -> None:
    file = SourceFile(uri="/ä b.wav", checksums={"md5": "00"}, extras={"year": "007", "": "x"})
    assert SourceFile(**json.loads(json.dumps(asdict(file)))) == file


def test_a_file_of_a_manifest_has_no_size() -> None:
    assert SourceFile(uri="/a.wav").size_bytes == UNKNOWN_SIZE


def test_a_file_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        SourceFile(uri="/a.wav").uri = "/b.wav"  # type: ignore[misc]
