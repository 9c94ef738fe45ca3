"""Family of a prediction: a reliable answer one level up when sibling genres split the probability.

"Rock 0.45, Metal 0.40" is not a reliable answer; "Rock & Metal 0.85" is.
"""

from __future__ import annotations

from acoustic.labels import LabelSet
from acoustic.prediction import Family, GenreScore


def find_family(
    scores: tuple[GenreScore, ...], labels: LabelSet, min_confidence: float, min_margin: float
) -> Family | None:
    """The best genre's family, if it is reliable where the genre alone is not.

    Args:
        scores: probabilities of all genres, most probable first; at least two.
        labels: genres of the model with their parents.
        min_confidence: lowest reliable probability of a genre or a family, in [0, 1].
        min_margin: lowest reliable lead, in [0, 1]: of a genre over the next one, of a family over
            the best genre outside it.

    Returns:
        The family, or None if the genre is reliable, the family is not, or the genre has no
        siblings.
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
