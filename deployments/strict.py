"""Reads mappings into nested dataclasses strictly: an unknown key is an error that names the
closest known one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from acoustic.errors import ConfigError

T = TypeVar("T")


def parse_strict(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """An instance of a (nested) config dataclass.

    Args:
        cls: the dataclass.
        values: mapping as read from YAML or JSON.
        where: name of the source, for messages.

    Raises:
        ConfigError: an unknown key, a wrong type or a value that the dataclass rejects.
    """
    try:
        instance: T = strict_adapter(cls).validate_python(dict(values))  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigError(f"{where}: {first_problem(error, cls)}") from error
    return instance


@cache
def strict_adapter(cls: Any) -> TypeAdapter[Any]:
    """Reader of a library dataclass by pydantic, of which the dataclass knows nothing.

    Unknown keys are rejected at every level: the marker is set here on the classes themselves,
    because pydantic reads it from each nested one.
    """
    for each in _nested_dataclasses(cls):
        each.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
    return TypeAdapter(cls)


def first_problem(error: ValidationError, cls: type) -> str:
    """One sentence about the first thing that is wrong: key, what is wrong, what to do.

    Args:
        error: raised by a `strict_adapter`.
        cls: the dataclass that was wanted.
    """
    problem = error.errors(include_url=False, include_input=False)[0]
    path = [str(part) for part in problem["loc"]]
    name = ".".join(path)
    if problem["type"] == "unexpected_keyword_argument":
        return f"{name}: unknown key{_hint(cls, path)}"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return f"{name}: {message}" if name else message


def _hint(cls: type, path: list[str]) -> str:
    """The key that was probably meant, or the section that an existing key belongs to."""
    owner: Any = cls
    for part in path[:-1]:
        inner = get_type_hints(owner).get(part)
        owner = next(_nested_dataclasses(inner), owner)  # a number is an index into a list
    wrong = path[-1]
    close = difflib.get_close_matches(wrong, [each.name for each in fields(owner)], n=1)
    if close:
        return f", did you mean {close[0]!r}?"
    sections = [section for section, names in _sections(cls) if wrong in names]
    if not sections:
        return ""
    return f", it belongs under {sections[0]!r}" if sections[0] else ", it belongs at the top level"


def _sections(cls: type, section: str = "") -> Iterator[tuple[str, set[str]]]:
    """Every mapping of the settings: its dotted key and the names of its keys."""
    yield section, {each.name for each in fields(cls)}
    for name, hint in get_type_hints(cls).items():
        if is_dataclass(hint) and isinstance(hint, type):
            yield from _sections(hint, f"{section}.{name}" if section else name)


def _nested_dataclasses(hint: Any) -> Iterator[type]:
    """The dataclass itself and every dataclass in its fields."""
    if is_dataclass(hint) and isinstance(hint, type):
        yield hint
        for inner in get_type_hints(hint).values():
            yield from _nested_dataclasses(inner)
    for argument in get_args(hint):
        yield from _nested_dataclasses(argument)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        ConfigError: unreadable, not YAML, or not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path.name} does not hold a mapping")
    return content
