"""The rows of a batch job: where a file is, then the fields of `Prediction.to_dict()`.

A file that failed has a code and a message, and null for everything that only an answer has.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from acoustic.errors import AcousticError
from acoustic.prediction import Prediction
from deployments.batch.files import SourceFile

_TEXT, _NUMBER, _TEXTS = pa.string(), pa.float64(), pa.list_(pa.string())


def _numbers(*names: str) -> pa.StructType:
    return pa.struct([(name, _NUMBER) for name in names])


_SCORE = pa.struct([("genre", _TEXT), ("probability", _NUMBER)])
_SET = pa.struct([("coverage", _NUMBER), ("genres", _TEXTS)])
_FAMILY = pa.struct([("name", _TEXT), ("probability", _NUMBER), ("genres", _TEXTS)])
_UNCERTAINTY = _numbers("entropy", "margin", "variation_ratio", "segment_disagreement", "distance")
_REASON = pa.struct(
    [("code", _TEXT), ("value", _NUMBER), ("threshold", _NUMBER), ("message", _TEXT)]
)
_RULE = pa.struct([("name", _TEXT), ("genres", _TEXTS), *_numbers("log_odds", "before", "after")])
_QUALITY = _numbers("rms_db", "silence_ratio", "clipping_ratio", "bandwidth_hz", "snr_estimate_db")
_DESCRIPTORS = _numbers(
    "tempo_bpm", "tempo_confidence", "beat_strength", "low_frequency_ratio", "vocal_proxy"
)
_MODEL = pa.struct(
    [
        *((name, _TEXT) for name in ("name", "version", "digest", "device", "precision")),
        ("temperature", _NUMBER),
    ]
)

IDENTITY = pa.schema([("id", _TEXT), ("uri", _TEXT), ("size_bytes", pa.int64()), ("etag", _TEXT)])
ANSWER = pa.schema(
    [
        ("duration_s", _NUMBER),
        ("format", _TEXT),
        ("segments", pa.list_(pa.list_(_NUMBER))),
        ("top_genre", _TEXT),
        ("confidence", _NUMBER),
        ("predictions", pa.list_(_SCORE)),
        ("prediction_set", _SET),
        ("family", _FAMILY),
        ("uncertainty", _UNCERTAINTY),
        ("needs_review", pa.bool_()),
        ("reasons", pa.list_(_REASON)),
        ("rules_applied", pa.list_(_RULE)),
        ("quality", _QUALITY),
        ("descriptors", _DESCRIPTORS),
        ("model", _MODEL),
        ("config_digest", _TEXT),
        ("content_sha256", _TEXT),
    ]
)
FAILURE = pa.schema([("error_code", _TEXT), ("error_message", _TEXT)])
RESERVED = (*IDENTITY.names, *ANSWER.names, *FAILURE.names)

LEFT_OUT = ("file", "cached", "timings_ms", "timeline")
"""Of `Prediction.to_dict()`: the URI stands for the file; the others differ from run to run."""


def row_schema(extras: list[str]) -> pa.Schema:
    """Columns of a part file; extras are text."""
    fields = [*IDENTITY, *ANSWER, *FAILURE, *((name, _TEXT) for name in extras)]
    return pa.schema(fields)


def identity(file: SourceFile, size_bytes: int, etag: str) -> dict[str, Any]:
    """Where a file is, and what its manifest says of it."""
    return {
        "id": file.id,
        "uri": file.uri,
        "size_bytes": size_bytes,
        "etag": etag,
        **file.extras,
    }


def answer_columns(prediction: Prediction) -> dict[str, Any]:
    """Columns of a file that was classified."""
    body = {k: v for k, v in prediction.to_dict().items() if k not in LEFT_OUT}
    return {**body, "error_code": "", "error_message": ""}


def error_columns(error: AcousticError) -> dict[str, Any]:
    """Columns of a file that failed."""
    return {"error_code": error.code, "error_message": error.message}
