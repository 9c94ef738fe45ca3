"""Answers of the classifier about made sounds, for comparison."""

from __future__ import annotations

from acoustic.errors import (
    AcousticError,
)
from acoustic.prediction import Prediction
from tests.support.sounds import encode, sweep

RATE = 22_050

SOUND = sweep(20.0)

WAV = encode(SOUND, RATE)


def numbers(result: Prediction | AcousticError) -> dict[str, object]:
    assert isinstance(result, Prediction), result
    left_out = ("file", "timings_ms", "content_blake3", "format", "cached")
    return {key: value for key, value in result.to_dict().items() if key not in left_out}
