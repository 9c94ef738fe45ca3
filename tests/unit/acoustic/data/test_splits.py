"""Splits: by group and genre, with the requested share; groups and recordings stay together."""

from __future__ import annotations

import numpy as np
import pytest

from acoustic.data.groups import joined
from acoustic.data.sources import Row
from acoustic.data.splits import assign_splits
from acoustic.errors import ConfigError


def row(
    i: int,
    genre: str = "Jazz",
    group: str = "",
    split: str = "",
    track: str = "",
    source: str = "s",
) -> Row:
    return Row(
        file=f"{i}.wav",
        genre=genre,
        group=group,
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
