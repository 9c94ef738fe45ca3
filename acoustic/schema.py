"""One schema of an answer, read from its dataclasses.

A field's type hint says what it holds and to how many digits it is written, the class docstring's
Attributes block says what it means. JSON follows from that here; OpenAPI, Arrow and CSV follow
from it where pydantic and pyarrow are at hand.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True, slots=True)
class Digits:
    """Decimal places that a number is written with.

    Attributes:
        n: number of decimal places.
    """

    n: int


@dataclass(frozen=True, slots=True)
class OmittedWhenNone:
    """Marks a field that is left out of the JSON object where it is None."""


Digits1 = Annotated[float, Digits(1)]
Digits2 = Annotated[float, Digits(2)]
Digits3 = Annotated[float, Digits(3)]
Digits4 = Annotated[float, Digits(4)]
Digits6 = Annotated[float, Digits(6)]

Converter = Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class SchemaField:
    """One field of an answer.

    Attributes:
        name: key in the JSON object.
        hint: type without annotations, such as `float | None`.
        description: from the Attributes block of the class docstring.
        is_omitted_when_none: whether the key is left out where the value is None.
    """

    name: str
    hint: Any
    description: str
    is_omitted_when_none: bool


@cache
def schema_fields(cls: Any) -> tuple[SchemaField, ...]:
    """The fields of an answer's dataclass, in order.

    Args:
        cls: a dataclass with an Attributes block.

    Raises:
        KeyError: a field is not described in the docstring.
    """
    hints = get_type_hints(cls, include_extras=True)
    described = attribute_descriptions(cls)
    return tuple(
        SchemaField(
            name=field.name,
            hint=hints[field.name],
            description=described[field.name],
            is_omitted_when_none=OmittedWhenNone()
            in getattr(hints[field.name], "__metadata__", ()),
        )
        for field in fields(cls)
    )


@cache
def attribute_descriptions(cls: Any) -> dict[str, str]:
    """Name → sentence, from the Attributes block of a class docstring."""
    text = inspect.getdoc(cls) or ""
    block = re.search(r"^Attributes:\n((?:[ ]{4}.*\n?|\n)+)", text, re.MULTILINE)
    found: dict[str, str] = {}
    for line in (block[1] if block else "").splitlines():
        if match := re.match(r" {4}(\w+): (.*)", line):
            name = match[1]
            found[name] = match[2]
        elif found and line.startswith(" " * 8):
            found[name] += " " + line.strip()
    return found


def to_plain(value: Any) -> Any:
    """A dataclass as JSON-ready dicts, lists and numbers, rounded as its hints say."""
    return {
        name: convert(item)
        for name, convert, is_omitted in _converters(type(value))  # type: ignore[arg-type]
        if (item := getattr(value, name)) is not None or not is_omitted
    }


@cache
def _converters(cls: Any) -> tuple[tuple[str, Converter, bool], ...]:
    return tuple(
        (field.name, _converter(field.hint), field.is_omitted_when_none)
        for field in schema_fields(cls)
    )


def _converter(hint: Any) -> Converter:
    """How a value of a type becomes plain."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        digits = next((each.n for each in hint.__metadata__ if isinstance(each, Digits)), None)
        if digits is not None:
            return lambda value: round(value, digits)
        return _converter(arguments[0])
    if origin in (Union, UnionType):
        (inner,) = (_converter(each) for each in arguments if each is not NoneType)
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        each = _converter(arguments[0])
        return lambda value: [each(item) for item in value]
    if origin is dict:
        inner = _converter(arguments[1])
        return lambda value: {key: inner(item) for key, item in value.items()}
    if is_dataclass(hint):
        return to_plain
    return lambda value: value
