"""Answers and errors of the service, as values again: for its cache and for clients."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from acoustic.errors import AcousticError, OverloadedError, error_of_code
from acoustic.prediction import Prediction

_PREDICTION = TypeAdapter(Prediction)


def prediction_of(body: dict[str, Any]) -> Prediction:
    """The prediction whose JSON object this is.

    Raises:
        pydantic.ValidationError: it is not one.
    """
    return _PREDICTION.validate_python(body)


def prediction_of_json(text: bytes) -> Prediction:
    """The prediction whose JSON text this is.

    Raises:
        pydantic.ValidationError: it is not one.
    """
    return _PREDICTION.validate_json(text)


def error_of(code: str, message: str, retry_after_s: float | None = None) -> AcousticError:
    """The error of a code, as the service raised it; a ServiceError for a code that is unknown.

    Args:
        code: stable name of the error.
        message: its sentence.
        retry_after_s: seconds after which a retry has a chance, if the service said so.
    """
    error = error_of_code(code, message)
    if isinstance(error, OverloadedError) and retry_after_s is not None:
        error.retry_after_s = retry_after_s
    return error
