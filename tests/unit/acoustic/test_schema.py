"""The schema of an answer: rounding, omitted keys and descriptions follow from a dataclass."""

from __future__ import annotations

import json
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic.prediction import Family, Prediction, WindowScore
from acoustic.schema import (
    Digits1,
    Digits2,
    Digits3,
    Digits4,
    Digits6,
    OmittedWhenNone,
    attribute_descriptions,
    schema_fields,
    to_plain,
)
from acoustic.types import Quality
from tests.support.properties import quick


@dataclass(frozen=True)
class Part:
    """A part.

    Attributes:
        share: its share, which is
            described on two lines.
        label: its label.
    """

    share: Digits2
    label: str = ""


@dataclass(frozen=True)
class Whole:
    """A whole.

    Attributes:
        level: a level or none.
        parts: its parts.
        spans: pairs of numbers.
        timings: name → number.
        extra: left out where it is None.
    """

    level: Digits1 | None
    parts: tuple[Part, ...]
    spans: tuple[tuple[Digits3, Digits3], ...]
    timings: dict[str, Digits1]
    extra: Annotated[Part | None, OmittedWhenNone()] = None


@dataclass(frozen=True)
class Rounded:
    """One number, written in five ways.

    Attributes:
        one: a number.
        two: a number.
        three: a number.
        four: a number.
        six: a number.
    """

    one: Digits1
    two: Digits2
    three: Digits3
    four: Digits4
    six: Digits6


@dataclass(frozen=True)
class Undescribed:
    """A value whose field has no description."""

    number: float


def test_nested_values_are_rounded_as_their_hints_say() -> None:
    whole = Whole(
        level=-3.14159,
        parts=(Part(share=0.126, label="a"), Part(share=1.0)),
        spans=((0.00049, 1.23456),),
        timings={"mel": 2.55000001},
    )
    assert to_plain(whole) == {
        "level": -3.1,
        "parts": [{"share": 0.13, "label": "a"}, {"share": 1.0, "label": ""}],
        "spans": [[0.0, 1.235]],
        "timings": {"mel": 2.6},
    }


def test_none_stays_null_unless_the_field_is_omitted() -> None:
    empty = Whole(level=None, parts=(), spans=(), timings={})
    assert to_plain(empty) == {"level": None, "parts": [], "spans": [], "timings": {}}
    filled = Whole(level=None, parts=(), spans=(), timings={}, extra=Part(share=0.5))
    assert to_plain(filled)["extra"] == {"share": 0.5, "label": ""}
    omitted = [field.name for field in schema_fields(Whole) if field.is_omitted_when_none]
    assert omitted == ["extra"]


@quick
@given(number=st.floats(-1e5, 1e5))
def test_a_written_number_is_within_half_a_step_of_the_value(number: float) -> None:
    plain = to_plain(Rounded(one=number, two=number, three=number, four=number, six=number))
    for digits, written in zip((1, 2, 3, 4, 6), plain.values(), strict=True):
        assert abs(written - number) <= 0.5001 * 10**-digits
        assert json.loads(json.dumps(written)) == written


def test_a_description_on_two_lines_is_one_sentence() -> None:
    assert attribute_descriptions(Part) == {
        "share": "its share, which is described on two lines.",
        "label": "its label.",
    }


def test_a_field_without_a_description_is_an_error() -> None:
    with pytest.raises(KeyError, match="number"):
        schema_fields(Undescribed)


def dataclasses_in(hint: Any) -> set[type]:
    found = {hint} if is_dataclass(hint) and isinstance(hint, type) else set()
    return found.union(*(dataclasses_in(each) for each in get_args(hint)), set())


def test_every_field_of_every_part_of_an_answer_is_a_described_sentence() -> None:
    waiting, seen = {Prediction}, set()
    while waiting:
        cls = waiting.pop()
        seen.add(cls)
        for field in schema_fields(cls):
            assert field.description.endswith("."), f"{cls.__name__}.{field.name}"
            waiting |= dataclasses_in(field.hint) - seen
    assert {Family, Quality, WindowScore} <= seen  # the walk went into options and tuples
