"""Which genre the labels of published models belong to."""

from __future__ import annotations

from pathlib import Path

import pytest

from acoustic.errors import ConfigError
from acoustic.labels import GENRES
from benchmarks.hub_models import label_list
from deployments.label_maps import load_label_map, recognise

LISTS = {"audioset_527": 527, "discogs_400": 400, "discogs_519": 519}


@pytest.mark.parametrize("name", LISTS)
def test_every_label_is_covered_and_every_genre_has_one(name: str) -> None:
    names = label_list(name)
    assert len(set(names)) == LISTS[name]
    found = recognise(names)
    assert found is not None
    styles, labels = found.styles(names, "sigmoid")
    assert labels.names == GENRES.names
    assert len(styles.genres) == len(names)
    assert styles.music or styles.not_music


@pytest.mark.parametrize(
    ("file", "label", "genre"),
    [
        ("audioset", "Heavy metal", "Metal"),
        ("audioset", "Rapping", "Rap"),
        ("audioset", "Dog", None),
        ("audioset", "Guitar", None),
        ("discogs", "Rock---Heavy Metal", "Metal"),
        ("discogs", "Rock---Indie Rock", "Rock"),
        ("discogs", "Electronic---Italo-Disco", "Disco"),
        ("discogs", "Electronic---Techno", "Electronic"),
        ("discogs", "Hip Hop---Gangsta", "Rap"),
        ("discogs", "Hip Hop---Boom Bap", "Hip-Hop"),
        ("discogs", "Folk, World, & Country---Bluegrass", "Country"),
        ("discogs", "Folk, World, & Country---Celtic", "Folk"),
        ("discogs", "Folk, World, & Country---Fado", "World"),
        ("discogs", "Funk / Soul---Disco", "Disco"),
        ("discogs", "Non-Music---Spoken Word", None),
    ],
)
def test_the_first_pattern_that_matches_counts(file: str, label: str, genre: str | None) -> None:
    names = label_list("audioset_527" if file == "audioset" else "discogs_400")
    styles, _ = load_label_map(file).styles(names, "sigmoid")
    assert styles.genres[names.index(label)] == genre


def test_labels_of_no_known_space_are_not_recognised() -> None:
    assert recognise(["rock", "jazz"]) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("genres: {rock: Rock}", "'jazz' matches no pattern"),
        ("genres: {'*': Rock}", "belong to 1 genres"),
        ("genres: {'*': Polka}", "'Polka' is none of the genres"),
        ("genre: {}", "genre"),
    ],
)
def test_a_map_that_cannot_work_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_label_map(str(tmp_path / "map.yaml")).styles(["rock", "jazz"], "softmax")
