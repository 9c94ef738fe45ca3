"""Family of an answer, against its definition on random probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic.labels import GENRES
from acoustic.postprocess.families import FamilyLimits, family_probabilities, find_family
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


def at(genre: float, margin: float) -> FamilyLimits:
    return FamilyLimits(genre=genre, margin=margin, family=genre)


def parent(genre: str) -> str | None:
    return GENRES.labels[GENRES.index(genre)].parent


@quick
@given(scores=scores, genre=limits, margin=limits, family=limits)
def test_the_most_probable_family_is_named_exactly_where_it_is_sure_and_the_genre_is_not(
    scores: Scores, genre: float, margin: float, family: float
) -> None:
    best, rival = scores[0], scores[1]
    is_sure = best.probability >= genre and best.probability - rival.probability >= margin
    together: dict[str, float] = {}
    for score in scores:
        name = parent(score.genre) or score.genre
        together[name] = together.get(name, 0.0) + score.probability
    name = max(together, key=lambda each: together[each])
    members = [score.genre for score in scores if parent(score.genre) == name]
    found = find_family(scores, GENRES, FamilyLimits(genre=genre, margin=margin, family=family))
    expected = not is_sure and len(members) > 1 and together[name] >= family
    assert (found is not None) == expected
    if found is not None:
        assert (found.name, found.genres) == (name, tuple(members))
        assert found.probability == pytest.approx(together[name])


@quick
@given(scores=scores)
def test_without_limits_every_genre_is_sure(scores: Scores) -> None:
    assert find_family(scores, GENRES, at(0.0, 0.0)) is None


def test_the_genres_of_a_family_are_listed_most_probable_first() -> None:
    given_scores = [("Metal", 0.45), ("Rock", 0.4), ("Jazz", 0.15)]
    made = tuple(GenreScore(genre=genre, probability=p) for genre, p in given_scores)
    found = find_family(made, GENRES, at(0.6, 0.1))
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
    found = find_family(close, GENRES, at(0.6, 0.15))
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
    assert find_family(scores_of(**scores), GENRES, at(0.6, 0.15)) is None


def test_another_family_can_be_more_probable_than_that_of_the_best_genre() -> None:
    found = find_family(scores_of(Jazz=0.4, Rock=0.3, Metal=0.3), GENRES, at(0.6, 0.15))
    assert found is not None
    assert found.name == "Rock & Metal"


def test_the_families_of_several_tracks_are_sums_over_their_genres() -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(16), 5)
    of_families, family = family_probabilities(probabilities, GENRES)
    np.testing.assert_allclose(of_families.sum(axis=1), 1)
    rock, metal = GENRES.index("Rock"), GENRES.index("Metal")
    assert family[rock] == family[metal]
    np.testing.assert_allclose(
        of_families[:, family[rock]], probabilities[:, rock] + probabilities[:, metal]
    )
