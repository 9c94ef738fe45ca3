"""Answers under the keys of the guide's service class (its section 5.1)."""

from __future__ import annotations

from typing import Any

from acoustic.errors import AcousticError
from acoustic.prediction import Prediction


def guide_row(file: str, result: Prediction | AcousticError) -> dict[str, Any]:
    """One file: file, predictions, top_genre, top_confidence, uncertainty and needs_review.

    Args:
        file: path of the file.
        result: its prediction; of an error only file and error are listed.
    """
    if isinstance(result, AcousticError):
        return {"file": file, "error": {"code": result.code, "message": result.message}}
    return {
        "file": file,
        "predictions": {score.genre: score.probability for score in result.predictions},
        "top_genre": result.top_genre,
        "top_confidence": result.confidence,
        "uncertainty": result.uncertainty.entropy,
        "needs_review": result.needs_review,
    }
