"""Scores of a model's own labels, as they are shown.

Shapes: S windows of one track, C genres, L styles.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from acoustic.postprocess.calibration import Logits, Probabilities, sigmoid
from acoustic.postprocess.taxonomy import GenreMap
from acoustic.prediction import StyleScore
from acoustic.styles import Styles

MAX_STYLES = 10


def genre_scores(styles: Styles, logits: Logits) -> Probabilities:
    """(C,) mean scores of the genres in [0, 1] over (S, C) logits; they do not sum to 1."""
    of_windows = sigmoid(logits) if styles.output == "sigmoid" else np.exp(logits)
    return np.asarray(of_windows.mean(axis=0), np.float64)


def best_styles(
    styles: Styles, scores: npt.NDArray[np.float32], genres: GenreMap
) -> tuple[StyleScore, ...]:
    """The highest of the (L,) scores that reach their threshold, with the genre that each is of."""

    def genre(style: int) -> str | None:
        known = styles.genres[style]
        return None if known is None else genres.name_of(known)

    best = np.argsort(-scores, kind="stable")[:MAX_STYLES]
    return tuple(
        StyleScore(name=styles.names[i], score=float(scores[i]), genre=genre(i))
        for i in best
        if scores[i] >= styles.thresholds[i]
    )
