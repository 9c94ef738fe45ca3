"""Labels are found by any spelling, and no two of a set share one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic.labels import GENRES, Label, LabelSet
from tests.support.properties import quick

SPELLINGS = [(label.name, name) for label in GENRES.labels for name in (label.name, *label.aliases)]


@pytest.mark.parametrize(("name", "spelling"), SPELLINGS)
def test_case_and_punctuation_do_not_matter(name: str, spelling: str) -> None:
    index = GENRES.names.index(name)
    dashed = spelling.replace(" ", "-")
    for written in (spelling, spelling.upper(), f" {spelling.lower()}!", dashed):
        assert GENRES.index(written) == index
        assert written in GENRES


@quick
@given(name=st.text(max_size=12))
def test_a_name_is_in_the_set_where_it_has_an_index(name: str) -> None:
    if name in GENRES:
        assert 0 <= GENRES.index(name) < len(GENRES)
    else:
        with pytest.raises(KeyError):
            GENRES.index(name)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "needs two labels or more, got 0"),
        ([Label(name="Jazz")], "needs two labels or more, got 1"),
        ([Label(name="Hip-Hop"), Label(name="hip hop")], "'hip hop' shares the name 'hiphop'"),
        ([Label(name="Dance", aliases=("EDM",)), Label(name="Edm")], "'Edm' shares the name 'edm'"),
        ([Label(name="A"), Label(name="B", aliases=("a",))], "'B' shares the name 'a'"),
    ],
)
def test_a_set_that_is_ambiguous_is_refused(labels: list[Label], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LabelSet(labels)


def test_a_label_may_repeat_its_own_name_among_its_aliases() -> None:
    labels = LabelSet([Label(name="Hip-Hop", aliases=("Hip Hop", "hiphop")), Label(name="Jazz")])
    assert labels.index("HIP HOP") == 0


def test_the_guides_genres_are_sixteen_and_a_family_has_two_members_or_more() -> None:
    assert len(GENRES) == 16
    parents = [label.parent for label in GENRES.labels if label.parent]
    assert all(parents.count(parent) >= 2 for parent in parents)
    assert [label.name for label in GENRES.labels if not label.parent] == ["Classical", "Reggae"]


def test_the_json_form_makes_the_same_label_again() -> None:
    for label in GENRES.labels:
        plain = label.to_dict()
        again = Label(name=plain["name"], aliases=tuple(plain["aliases"]), parent=plain["parent"])  # type: ignore[arg-type]
        assert again == label
