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
        min_margin: lead below which neither is: of a genre over the next, of a family over the
            best genre outside it.

    Returns:
        The best genre's family, if the genre is not to be relied upon and the family is; None
        otherwise, or where it has no siblings.
    """
    best, rival = scores[0], scores[1]
    is_sure = best.probability >= min_confidence
    if is_sure and best.probability - rival.probability >= min_margin:
        return None
    parent = _parent(best, labels)
    siblings = [score for score in scores if parent and _parent(score, labels) == parent]
    outside = [score.probability for score in scores if score not in siblings]
    probability = sum(score.probability for score in siblings)
    lead = probability - max(outside, default=0.0)
    if len(siblings) < 2 or probability < min_confidence or lead < min_margin:
        return None
    return Family(
        name=str(parent),
        probability=probability,
        genres=tuple(score.genre for score in siblings),
    )


def _parent(score: GenreScore, labels: LabelSet) -> str | None:
    return labels.labels[labels.index(score.genre)].parent
