"""Logits over a model's own labels → logits over genres, and the score of each label.

Shapes: N windows, L styles, C genres.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from acoustic.labels import LabelSet
from acoustic.styles import Styles

FloatArray = npt.NDArray[np.float32]

MIN_LOGIT = -50.0
"""Logit of a genre that no style of the model belongs to."""


class StyleHead:
    """Turns a model's logits over styles into logits over genres.

    Args:
        styles: the L labels.
        labels: the C genres.

    Raises:
        ValueError: a style belongs to a genre that is not among them.
    """

    def __init__(self, styles: Styles, labels: LabelSet) -> None:
        self._is_softmax = styles.output == "softmax"
        genre = np.array([-1 if g is None else _index(labels, g) for g in styles.genres])
        self._members = [np.flatnonzero(genre == c) for c in range(len(labels))]
        self._music = [styles.names.index(name) for name in styles.music]
        self._not_music = [styles.names.index(name) for name in styles.not_music]

    def genre_logits(self, logits: FloatArray) -> FloatArray:
        """(N, C) of (N, L): the log of the summed probabilities, or the largest log-odds.

        Probabilities of a softmax exclude each other and add up; those of sigmoids do not: a song
        is as much Rock as it is of the style of Rock that fits it best.
        """
        scores = _log_softmax(logits) if self._is_softmax else logits
        summary = np.logaddexp if self._is_softmax else np.maximum
        found = np.full((len(logits), len(self._members)), MIN_LOGIT, np.float32)
        for genre, members in enumerate(self._members):
            if len(members):
                found[:, genre] = summary.reduce(scores[:, members], axis=1)
        return found

    def scores(self, logits: FloatArray) -> FloatArray:
        """(N, L) score of each style in [0, 1]."""
        if self._is_softmax:
            return np.exp(_log_softmax(logits))
        return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), np.float32)  # never overflows

    def music(self, logits: FloatArray) -> FloatArray | None:
        """(N,) log-odds of music over any other sound; None if no style says so."""
        if not self._music and not self._not_music:
            return None
        if self._is_softmax:
            chosen = self._music or self._not_music
            log_share = np.logaddexp.reduce(_log_softmax(logits)[:, chosen], axis=1)
            log_odds = log_share - np.log1p(-np.exp(np.minimum(log_share, -1e-6)))
        else:
            log_odds = logits[:, self._music or self._not_music].max(axis=1)
        return np.asarray(log_odds if self._music else -log_odds, np.float32)


def _index(labels: LabelSet, genre: str) -> int:
    try:
        return labels.index(genre)
    except KeyError:
        raise ValueError(
            f"a style belongs to {genre!r}, which is not a genre of the model"
        ) from None


def _log_softmax(logits: FloatArray) -> FloatArray:
    return np.asarray(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True), np.float32)
