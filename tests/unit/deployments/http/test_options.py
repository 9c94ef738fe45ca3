"""Request options by name: as text and typed, unknown names, values out of range."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from acoustic.errors import InvalidOptionError
from acoustic.request import COVERAGES, EFFORTS, MAX_NAME_CHARACTERS, MAX_TOP_K, RequestOptions
from deployments.http.options import NAMES, parse_options

VALUES: dict[str, list[tuple[str, Any]]] = {
    "effort": [(effort, effort) for effort in EFFORTS],
    "top_k": [("1", 1), ("16", 16), (str(MAX_TOP_K), MAX_TOP_K)],
    "coverage": [(f"{coverage:.2f}", coverage) for coverage in COVERAGES],
    "model": [("", ""), ("ast", "ast")],
    "taxonomy": [("", ""), ("families", "families")],
    "timeline": [("true", True), ("false", False), ("1", True), ("0", False)],
    "sets": [("true", True), ("false", False)],
    "file": [("", ""), ("ä b.wav", "ä b.wav"), ("x" * MAX_NAME_CHARACTERS,) * 2, ("007", "007")],
}
"""Option → its text and the value that the text stands for."""

CASES = [(name, text, value) for name, pairs in VALUES.items() for text, value in pairs]


def test_every_option_is_tried() -> None:
    assert set(VALUES) == set(NAMES) == {field.name for field in fields(RequestOptions)}


@pytest.mark.parametrize(("name", "text", "value"), CASES)
def test_text_and_typed_values_mean_the_same(name: str, text: str, value: Any) -> None:
    expected = RequestOptions(**{name: value})
    assert parse_options({name: text}) == parse_options({name: value}) == expected
    assert type(getattr(parse_options({name: text}), name)) is type(value)


def test_options_combine() -> None:
    texts = {"effort": "auto", "top_k": "3", "coverage": "0.9", "timeline": "true", "file": "a"}
    assert parse_options(texts) == RequestOptions(
        effort="auto", top_k=3, coverage=0.9, timeline=True, file="a"
    )


def test_no_option_is_the_default() -> None:
    assert parse_options({}) == RequestOptions()
    assert parse_options({"top_k": None, "coverage": None}) == RequestOptions()


@pytest.mark.parametrize("name", ["topk", "Effort", "", "top_k ", "uri", "__init__", "check_model"])
def test_an_unknown_option_is_rejected_with_the_known_ones(name: str) -> None:
    with pytest.raises(InvalidOptionError) as raised:
        parse_options({name: "1"})
    message = raised.value.message
    assert message.startswith(f"option {name!r} is unknown, known are")
    assert all(known in message for known in NAMES)


def test_a_long_name_is_cut_in_the_message() -> None:
    with pytest.raises(InvalidOptionError) as raised:
        parse_options({"x" * 100_000: "1"})
    assert len(raised.value.message) < 200


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"top_k": "0"}, "top_k is 0, limits are 1 to 1000"),
        ({"top_k": True}, "option top_k is true, must not be a boolean"),
        ({"coverage": False}, "option coverage is false, must not be a boolean"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_k": MAX_TOP_K + 1}, "top_k is 1001"),
        ({"top_k": "9" * 5000}, "option top_k: "),
        ({"top_k": "2.5"}, "option top_k: "),
        ({"top_k": ""}, "option top_k: "),
        ({"top_k": [1]}, "option top_k: "),
        ({"coverage": "0.49"}, "coverage is 0.49, limits are 0.50 to 0.99 in steps of 0.01"),
        ({"coverage": 1.0}, "coverage is 1,"),
        ({"coverage": "0.905"}, "coverage is 0.905"),
        ({"coverage": "nan"}, "coverage is nan"),
        ({"coverage": "inf"}, "coverage is inf"),
        ({"coverage": "90%"}, "option coverage: "),
        ({"effort": "extreme"}, "option effort: input should be 'fast', 'balanced'"),
        ({"effort": "Fast"}, "option effort: "),
        ({"effort": ["fast"]}, "option effort: "),
        ({"effort": None}, "option effort: "),
        ({"timeline": "maybe"}, "option timeline: "),
        ({"timeline": 2}, "option timeline: "),
        ({"timeline": None}, "option timeline: "),
        ({"file": "x" * 256}, "file has 256 characters, limit is 255"),
        ({"file": 7}, "option file: "),
    ],
)
def test_what_is_out_of_range_or_of_another_type_is_rejected(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidOptionError) as raised:
        parse_options(values)
    assert message in raised.value.message
    assert "\n" not in raised.value.message
    assert "pydantic" not in raised.value.message
