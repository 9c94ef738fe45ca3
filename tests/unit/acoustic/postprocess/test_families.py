"""Family of an answer, against its definition on random probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic.labels import GENRES
from acoustic.postprocess.families import find_family
from acoustic.prediction import GenreScore
from tests.support.properties import quick

Scores = tuple[GenreScore, ...]


def drawn(seed: int, concentration: float) -> Scores:
    """Probabilities of the sixteen genres, most probable first; few are large if it is small."""
    values = np.random.default_rng(seed).dirichlet(np.full(16, concentration))
    found = zip(GENRES.names, values.tolist(), strict=True)
    ordered = sorted(found, key=lambda pair: -pair[1])
    return tuple(GenreScore(genre=genre, probability=p) for genre, p in ordered)


scores = st.builds(drawn, st.integers(0, 100_000), st.sampled_from([0.05, 0.2, 1.0]))
limits = st.floats(0, 1)


def parent(genre: str) -> str | None:
    return GENRES.labels[GENRES.index(genre)].parent


@quick
@given(scores=scores, min_confidence=limits, min_margin=limits)
def test_a_family_is_named_exactly_where_it_is_sure_and_its_genre_is_not(
    scores: Scores, min_confidence: float, min_margin: float
) -> None:
    best, rival = scores[0], scores[1]
    lead = best.probability - rival.probability
    is_genre_sure = best.probability >= min_confidence and lead >= min_margin
    name = parent(best.genre)
    together = sum(s.probability for s in scores if parent(s.genre) == name)
    outside = max(s.probability for s in scores if parent(s.genre) != name or name is None)
    is_family_sure = together >= min_confidence and together - outside >= min_margin
    found = find_family(scores, GENRES, min_confidence, min_margin)
    assert (found is not None) == (name is not None and not is_genre_sure and is_family_sure)
    if found is not None:
        assert found.name == name
        assert found.genres[0] == best.genre
        assert found.probability == pytest.approx(together)


@quick
@given(scores=scores)
def test_without_limits_every_genre_is_sure(scores: Scores) -> None:
    assert find_family(scores, GENRES, 0.0, 0.0) is None


def test_the_genres_of_a_family_are_listed_most_probable_first() -> None:
    given_scores = [("Metal", 0.45), ("Rock", 0.4), ("Jazz", 0.15)]
    made = tuple(GenreScore(genre=genre, probability=p) for genre, p in given_scores)
    found = find_family(made, GENRES, 0.6, 0.1)
    assert found is not None
    assert found.genres == ("Metal", "Rock")


def scores_of(**probabilities: float) -> tuple[GenreScore, ...]:
    names = {"HipHop": "Hip-Hop"}
    found = [
        GenreScore(genre=names.get(genre, genre), probability=p)
        for genre, p in probabilities.items()
    ]
    return tuple(sorted(found, key=lambda score: -score.probability))


def test_a_family_is_named_where_its_genres_are_close() -> None:
    close = scores_of(Rock=0.46, Metal=0.4, Jazz=0.14)
    found = find_family(close, GENRES, 0.6, 0.15)
    assert found is not None
    assert (found.name, found.genres) == ("Rock & Metal", ("Rock", "Metal"))
    assert found.probability == pytest.approx(0.86)


@pytest.mark.parametrize(
    "scores",
    [
        {"Rock": 0.8, "Metal": 0.1, "Jazz": 0.1},  # the genre alone is above the threshold
        {"Rock": 0.4, "Metal": 0.1, "Jazz": 0.5},  # the family is below the threshold
        {"Classical": 0.5, "Reggae": 0.5},  # the genres are in no common family
        {"Rock": 0.5, "Jazz": 0.5},  # only one genre of the family is present
    ],
)
def test_no_family_is_named(scores: dict[str, float]) -> None:
    assert find_family(scores_of(**scores), GENRES, 0.6, 0.15) is None


def test_a_family_with_a_close_rival_outside_is_not_sure() -> None:
    assert find_family(scores_of(Jazz=0.4, Blues=0.07, Rock=0.36), GENRES, 0.44, 0.15) is None
    assert find_family(scores_of(Jazz=0.4, Blues=0.2, Rock=0.36), GENRES, 0.44, 0.15) is not None
