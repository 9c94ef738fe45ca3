"""The answer one level up: where siblings share the probability, their family may be sure.

"Rock 0.45, Metal 0.40" is no answer to rely on; "Rock & Metal 0.85" is.
"""

from __future__ import annotations

from acoustic.labels import LabelSet
from acoustic.prediction import Family, GenreScore


def find_family(
    scores: tuple[GenreScore, ...], labels: LabelSet, min_confidence: float, min_margin: float
) -> Family | None:
    """The family that is sure where the genre is not.

    Args:
        scores: all genres, most probable first.
        labels: with their parents.
        min_confidence: probability from which a genre, or a family, is relied upon.
        min_margin: lead over the second genre below which a genre is not relied upon.

    Returns:
        The most probable family of two genres or more, if the best genre is not to be relied upon
        and the family is; None otherwise.
    """
    best, rival = scores[0], scores[1]
    is_sure = best.probability >= min_confidence
    if is_sure and best.probability - rival.probability >= min_margin:
        return None
    members: dict[str, list[GenreScore]] = {}
    for score in scores:
        parent = labels.labels[labels.index(score.genre)].parent
        if parent is not None:
            members.setdefault(parent, []).append(score)
    families = [
        Family(
            name=name,
            probability=sum(score.probability for score in found),
            genres=tuple(score.genre for score in found),
        )
        for name, found in members.items()
        if len(found) >= 2
    ]
    likely = max(families, key=lambda family: family.probability, default=None)
    return likely if likely and likely.probability >= min_confidence else None
