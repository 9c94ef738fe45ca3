"""Columns of a batch job: an Arrow type for every field of an answer, kept where all is null."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pytest

from acoustic.errors import AudioTooShortError
from acoustic.example import example_wav
from acoustic.pipeline import Pipeline
from acoustic.prediction import Prediction
from acoustic.schema import Digits3, OmittedWhenNone
from deployments.batch.schema import (
    ANSWER,
    COSTS,
    IDENTITY,
    LEFT_OUT,
    RESERVED,
    answer_columns,
    arrow_type,
    error_columns,
    identity,
    row_schema,
)
from deployments.batch.source_file import SourceFile
from tests.support.chunks import failed_row


@dataclass(frozen=True)
class Point:
    """A value of two numbers.

    Attributes:
        x: first number.
        name: name, or null.
    """

    x: Digits3
    name: str | None


POINT = pa.struct([("x", pa.float64()), ("name", pa.string())])


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (str, pa.string()),
        (int, pa.int64()),
        (float, pa.float64()),
        (bool, pa.bool_()),
        (Digits3, pa.float64()),
        (float | None, pa.float64()),
        (Digits3 | None, pa.float64()),
        (Annotated[str | None, OmittedWhenNone()], pa.string()),
        (tuple[str, ...], pa.list_(pa.string())),
        (tuple[Digits3, Digits3], pa.list_(pa.float64())),
        (tuple[tuple[float, float], ...], pa.list_(pa.list_(pa.float64()))),
        (Point, POINT),
        (Point | None, POINT),
        (tuple[Point, ...], pa.list_(POINT)),
        (tuple[Point, ...] | None, pa.list_(POINT)),
    ],
    ids=str,
)
def test_every_hint_has_its_type(hint: Any, expected: pa.DataType) -> None:
    assert arrow_type(hint) == expected


@pytest.mark.parametrize("hint", [bytes, dict[str, float], list[str], object])
def test_a_type_that_json_answers_do_not_have_is_rejected(hint: Any) -> None:
    with pytest.raises(KeyError):
        arrow_type(hint)


def test_the_answers_fields_are_columns_in_their_order() -> None:
    fields = [name for name in Prediction.__dataclass_fields__ if name not in LEFT_OUT]
    assert ANSWER.names == fields
    assert set(LEFT_OUT) <= set(Prediction.__dataclass_fields__)


def test_no_name_stands_for_two_columns() -> None:
    names = [*RESERVED, *COSTS]
    assert len(names) == len(set(names))
    assert row_schema(["label", "year"]).names == [*RESERVED, "label", "year"]


def test_columns_of_errors_only_keep_their_types() -> None:
    """An all-null column without a schema would be of type null and could not be joined."""
    rows = [failed_row(f"/{i}.wav", AudioTooShortError("0.3 s, limit is 1 s")) for i in range(3)]
    table = pa.Table.from_pylist(rows, schema=row_schema([]))
    assert table.schema == row_schema([])
    for name in ANSWER.names:
        assert table[name].to_pylist() == [None] * 3, name
    assert table["error_code"].to_pylist() == ["audio_too_short"] * 3


@pytest.fixture(scope="module")
def prediction(tiny_checkpoint: Path) -> Prediction:
    return Pipeline.from_folder(tiny_checkpoint).classify(example_wav(30))


def test_null_stays_apart_from_empty(prediction: Prediction) -> None:
    sparse = replace(
        prediction, duration_s=None, prediction_set=None, family=None, reasons=(),
        rules_applied=(), content_blake3="",
        uncertainty=replace(prediction.uncertainty, distance=None),
    )  # fmt: skip
    row = answer_columns(sparse)
    failed = error_columns(AudioTooShortError("x"))
    table = pa.Table.from_pylist([row, failed], schema=row_schema([]))
    found, empty = table.to_pylist()
    assert (found["duration_s"], found["prediction_set"], found["family"]) == (None, None, None)
    assert (found["reasons"], found["content_blake3"]) == ([], "")
    assert found["uncertainty"]["distance"] is None
    assert found["uncertainty"]["entropy"] == row["uncertainty"]["entropy"]
    assert empty["uncertainty"] is None, "a failed file has no uncertainty, not one of nulls"


def test_an_answer_and_a_failure_exclude_each_other(prediction: Prediction) -> None:
    assert answer_columns(prediction)["error_code"] == ""
    assert not set(LEFT_OUT) & set(answer_columns(prediction))
    assert set(error_columns(AudioTooShortError("x"))) == {"error_code", "error_message"}


def test_the_identity_holds_the_manifests_columns() -> None:
    file = SourceFile(uri="/a.wav", size_bytes=-1, extras={"label": "007"})
    row = identity(file, 12, "v1")
    assert row == {
        "id": file.id, "uri": "/a.wav", "size_bytes": 12, "etag": "v1", "label": "007"
    }  # fmt: skip
    assert list(row)[:4] == IDENTITY.names
