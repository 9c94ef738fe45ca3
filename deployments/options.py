"""What a caller may ask for, in a query string, a form or a JSON body: one model for all three."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from acoustic.errors import InvalidOptionError
from acoustic.types import Effort

M = TypeVar("M", bound=BaseModel)


class Options(BaseModel):
    """Options of one classification."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top_k: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Genres in the reply; five by default, or all where there are fewer.",
    )
    effort: Effort = Field(
        default="balanced",
        description="How much is heard: fast 1 window, balanced 3, thorough 10, auto 3 to 10.",
    )
    timeline: bool = Field(default=False, description="List every window's own best genre.")
    coverage: float | None = Field(
        default=None,
        ge=0.5,
        le=0.99,
        description="Probability that the prediction set holds the true genre, in steps of 0.01.",
    )
    file: str = Field(default="", max_length=255, description="Name repeated in the reply.")


class JsonRequest(Options):
    """Body of a JSON request: the options beside the audio."""

    audio: str | None = Field(default=None, description="The audio file in base64.")
    uri: str | None = Field(default=None, description="Reserved: no source is allowed yet.")


def parse_options(values: Mapping[str, Any]) -> Options:
    """Options of a query string or form.

    Raises:
        InvalidOptionError: an unknown name, a wrong type or a value out of range.
    """
    return validate(Options, values)


def validate(model: type[M], values: Mapping[str, Any]) -> M:
    """An instance of the model, or our own error with the first problem.

    Raises:
        InvalidOptionError: an unknown name, a wrong type or a value out of range.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in problem["loc"]) or "body"
        raise InvalidOptionError(f"option {name!r}: {problem['msg'].lower()}") from error
