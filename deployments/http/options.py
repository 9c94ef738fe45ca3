"""Request options from a query string, a form or a JSON body: the library's `RequestOptions`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pydantic import ValidationError

from acoustic.errors import InvalidOptionError
from acoustic.request import RequestOptions
from deployments.strict import first_problem, strict_adapter

NAMES = frozenset(field.name for field in fields(RequestOptions))
SWITCHES = frozenset(field.name for field in fields(RequestOptions) if field.type == "bool")


def parse_options(values: Mapping[str, Any]) -> RequestOptions:
    """Options by name; text such as "3" or "true" is converted.

    Args:
        values: name → value, all of them options.

    Raises:
        InvalidOptionError: an unknown name, a wrong type or a value out of range.
    """
    for name in values:
        if name not in NAMES:
            known = ", ".join(sorted(NAMES))
            raise InvalidOptionError(f"option {name[:64]!r} is unknown, known are {known}")
        if isinstance(values[name], bool) and name not in SWITCHES:  # else it would be taken for 1
            said = str(values[name]).lower()
            raise InvalidOptionError(f"option {name} is {said}, must not be a boolean")
    try:
        options: RequestOptions = strict_adapter(RequestOptions).validate_python(dict(values))
    except ValidationError as error:
        raise InvalidOptionError(f"option {first_problem(error, RequestOptions)}") from error
    return options
