"""Splits: by group and genre, with the requested share; groups and recordings stay together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from acoustic.data.groups import group_hash, joined
from acoustic.data.sources import Row
from acoustic.data.splits import assign_splits, with_known_splits
from acoustic.errors import ConfigError


def row(
    i: int,
    genre: str = "Jazz",
    group: str = "",
    split: str = "",
    track: str = "",
    source: str = "s",
    collection: str = "c",
) -> Row:
    return Row(
        file=f"{i}.wav",
        genre=genre,
        group=group,
        collection=collection,
        split=split,
        track=track,
        source=source,
        path=None,
        read=lambda: np.zeros((128, 1), np.uint8),
    )


def many(n: int, **columns: str) -> list[Row]:
    return [row(i, genre=("Jazz", "Folk")[i % 2], **columns) for i in range(n)]


@pytest.mark.parametrize("ratio", [0.02, 0.1, 0.15, 0.2, 0.4, 0.5])
def test_the_share_is_the_wanted_one(ratio: float) -> None:
    splits = assign_splits(many(200), ratio, seed=0)
    assert splits.count("valid") / 200 == pytest.approx(ratio, abs=0.031)


def test_repeats_of_a_recording_are_drawn_together() -> None:
    rows = [
        row(
            i,
            genre=("Jazz", "Folk")[i % 2],
            group=f"{source} {i // 2}",
            track=f"t{i}",
            source=source,
        )
        for source in ("a", "b")
        for i in range(60)
    ]
    splits = assign_splits(rows, 0.2, seed=3)
    assert splits[:60] == splits[60:]
    assert set(splits) == {"train", "valid"}


def test_a_row_without_a_split_follows_its_group() -> None:
    rows = [
        row(0, group="Nina", split="valid"),
        row(1, group="Nina"),
        row(2, group="Joan", split="train", track="x"),
        row(3, group="Joan's label", track="x"),
    ]
    assert assign_splits(rows, 0.2, seed=0) == ["valid", "valid", "train", "train"]


def test_a_genre_of_one_artist_is_learned(caplog: pytest.LogCaptureFixture) -> None:
    """Its only group stays in train for every random seed; in valid, nothing could be learned."""
    rows = [*many(40), *(row(90 + i, genre="Zouk", group="Kassav") for i in range(8))]
    for seed in range(8):
        splits = assign_splits(rows, 0.4, seed)
        assert splits[40:] == ["train"] * 8
    assert "no recording of Zouk in the valid split: too few groups" in caplog.text


@pytest.mark.parametrize("n_genres", [2, 6])
def test_too_few_to_split_is_one_clear_error(n_genres: int) -> None:
    rows = [row(i, genre=f"genre {i % n_genres}") for i in range(6)]
    with pytest.raises(ConfigError, match="6 recordings in 6 groups cannot be split 5 ways"):
        assign_splits(rows, 0.2, seed=0)


def test_groups_that_share_a_recording_are_one() -> None:
    found = joined(["a", "b", "c", "a"], ["1", "2", "2", "3"])
    assert found[0] == found[3]
    assert found[1] == found[2]
    assert found[0] != found[1]


def in_collections(n: int, n_collections: int, **columns: str) -> list[Row]:
    return [
        row(i, ("Jazz", "Folk")[i % 2], group=f"artist {i}", collection=f"c{i % n_collections}")
        for i in range(n)
    ]


def test_collections_stay_whole_where_there_are_ten_or_more() -> None:
    rows = in_collections(200, 20)
    splits = assign_splits(rows, 0.2, seed=0)
    sides = {(each.collection, split) for each, split in zip(rows, splits, strict=True)}
    assert len(sides) == 20
    assert splits.count("valid") / 200 == pytest.approx(0.2, abs=0.06)


def test_of_few_collections_artists_are_held_out() -> None:
    rows = in_collections(200, 9)
    splits = assign_splits(rows, 0.2, seed=0)
    sides = {(each.collection, split) for each, split in zip(rows, splits, strict=True)}
    assert len(sides) == 18


def test_what_shares_a_collection_with_a_stated_split_follows_it() -> None:
    """A collection whose artists are stated in both splits cannot test: the rest is trained on."""
    rows = in_collections(60, 12)
    rows[0] = replace(rows[0], split="valid")  # of c0
    rows[1] = replace(rows[1], split="valid")  # of c1, whose next is stated to be trained on
    rows[13] = replace(rows[13], split="train")
    splits = assign_splits(rows, 0.2, seed=0)
    assert {splits[i] for i in range(0, 60, 12)} == {"valid"}
    assert [splits[i] for i in range(1, 60, 12)] == ["valid", *["train"] * 4]


@pytest.mark.parametrize("is_held_out", [False, True])
def test_the_split_follows_what_a_checkpoint_was_trained_on(is_held_out: bool) -> None:
    rows = [row(i, group=f"artist {i // 2}") for i in range(8)]
    rows[7] = replace(rows[7], split="valid")
    trained = [group_hash("artist 0"), group_hash("artist 2")]
    found = [each.split for each in with_known_splits(rows, trained, is_held_out)]
    rest = "valid" if is_held_out else ""
    assert found == ["train", "train", rest, rest, "train", "train", rest, "valid"]
    other = with_known_splits(rows, [group_hash("somebody")], is_held_out)
    assert [each.split for each in other] == [*[""] * 7, "valid"]  # other data: drawn as usual
