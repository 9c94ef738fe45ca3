"""Family of a prediction: a reliable answer one level up when sibling genres split the probability.

"Rock 0.45, Metal 0.40" is not a reliable answer; "Rock & Metal 0.85" is.

Shapes: K tracks, C classes, R families.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from acoustic.labels import LabelSet
from acoustic.postprocess.calibration import Probabilities
from acoustic.prediction import Family, GenreScore


@dataclass(frozen=True, kw_only=True, slots=True)
class FamilyLimits:
    """From which probability an answer is reliable, each in [0, 1].

    Attributes:
        genre: lowest reliable probability of a genre.
        margin: lowest reliable lead of a genre over the next one.
        family: lowest reliable probability of a family.
    """

    genre: float
    margin: float
    family: float


def find_family(
    scores: tuple[GenreScore, ...], labels: LabelSet, limits: FamilyLimits
) -> Family | None:
    """The most probable family, if it is reliable where the best genre alone is not.

    Args:
        scores: probabilities of all genres, most probable first; at least two.
        labels: genres of the model with their parents.
        limits: from which probability an answer is reliable.

    Returns:
        The family, or None if the genre is reliable, the family is not, or it has only one genre.
    """
    best, rival = scores[0], scores[1]
    is_sure = best.probability >= limits.genre
    if is_sure and best.probability - rival.probability >= limits.margin:
        return None
    members: dict[str, list[GenreScore]] = {}
    for score in scores:
        members.setdefault(family_name(labels, labels.index(score.genre)), []).append(score)
    name, siblings = max(members.items(), key=lambda item: _sum(item[1]))
    if len(siblings) < 2 or _sum(siblings) < limits.family:
        return None
    return Family(
        name=name,
        probability=_sum(siblings),
        genres=tuple(score.genre for score in siblings),
    )


def family_name(labels: LabelSet, index: int) -> str:
    """Name of a genre's family; its own name if it shares none."""
    label = labels.labels[index]
    return label.parent or label.name


def family_probabilities(
    probabilities: Probabilities, labels: LabelSet
) -> tuple[Probabilities, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    """(K, R) probabilities of the families, and (C,) the family of each genre."""
    names = [family_name(labels, i) for i in range(len(labels))]
    families = sorted(set(names))
    family = np.array([families.index(name) for name in names], np.int64)
    member = family[:, None] == np.arange(len(families))
    return np.asarray(probabilities @ member.astype(np.float64)), family


def _sum(scores: list[GenreScore]) -> float:
    return sum(score.probability for score in scores)
