"""What a row of a batch job is: where a file is, then the fields of a `Prediction`.

A file that failed has a code and a message, and null for everything that only an answer has.

Between the stages a row is JSON text in an Arrow table, because an all-null Arrow column loses its
type from block to block, while JSON keeps null apart from "". A table is one chunk of files and
stays one block from the listing to its part file, so that a part has a name that follows from its
files, and a repeated write replaces what it repeats.
"""

from __future__ import annotations

from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pyarrow as pa

from acoustic.errors import AcousticError
from acoustic.prediction import Prediction
from acoustic.schema import schema_fields
from deployments.batch.source_file import SourceFile

FILES = pa.schema([("file", pa.string())])
"""A `SourceFile` as JSON."""

FEATURES = pa.schema(
    [("row", pa.string()), ("content_blake3", pa.string()), ("rounds", pa.list_(pa.binary()))]
)
"""The row so far as JSON, and the features of each round."""

ROWS = pa.schema([("row", pa.string())])
"""The whole row as JSON, with what it cost."""

COSTS = ("read_bytes", "preprocess_s", "classify_s")
"""Fields of a row in JSON that are summed up and do not go into the output."""

LEFT_OUT = ("file", "cached", "timings_ms", "timeline", "prediction_sets")
"""Fields of an answer without a column: the URI stands for the file; the others differ from run
to run."""

_SCALARS = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}


def arrow_type(hint: Any) -> pa.DataType:
    """The Arrow type of a field of an answer.

    Args:
        hint: a type that `acoustic.schema` knows: scalars, optionals, tuples, dataclasses.

    Raises:
        KeyError: any other type.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return arrow_type(arguments[0])
    if origin in (Union, UnionType):
        return arrow_type(next(each for each in arguments if each is not NoneType))
    if origin is tuple:
        return pa.list_(arrow_type(arguments[0]))
    if is_dataclass(hint) and isinstance(hint, type):
        return pa.struct([(field.name, arrow_type(field.hint)) for field in schema_fields(hint)])
    return _SCALARS[hint]


IDENTITY = pa.schema(
    [("id", pa.string()), ("uri", pa.string()), ("size_bytes", pa.int64()), ("etag", pa.string())]
)
ANSWER = pa.schema(
    [
        (field.name, arrow_type(field.hint))
        for field in schema_fields(Prediction)
        if field.name not in LEFT_OUT
    ]
)
FAILURE = pa.schema([("error_code", pa.string()), ("error_message", pa.string())])
RESERVED = (*IDENTITY.names, *ANSWER.names, *FAILURE.names)


def row_schema(extras: list[str]) -> pa.Schema:
    """Columns of a part file.

    Args:
        extras: names of the manifest's columns, which are text.
    """
    fields = [*IDENTITY, *ANSWER, *FAILURE, *((name, pa.string()) for name in extras)]
    return pa.schema(fields)


def identity(file: SourceFile, size_bytes: int, etag: str) -> dict[str, Any]:
    """Columns that say where a file is, and what its manifest says about it."""
    return {
        "id": file.id,
        "uri": file.name,
        "size_bytes": size_bytes,
        "etag": etag,
        **file.extras,
    }


def answer_columns(prediction: Prediction) -> dict[str, Any]:
    """Columns of a file that was classified."""
    answer = prediction.to_dict()  # some fields are left out where there is nothing to say
    body = {name: answer.get(name) for name in ANSWER.names}
    return {**body, "error_code": "", "error_message": ""}


def error_columns(error: AcousticError) -> dict[str, Any]:
    """Columns of a file that failed."""
    return {"error_code": error.code, "error_message": error.message}
