"""Train/valid split: a group is never on both sides, nor a collection where there are enough.

Two songs of one artist, or two tracks of one album, share a voice, a studio and a codec. With
one of them on each side, accuracy measures recognition of the artist: on GTZAN this inflates it
by about twenty points (Sturm, The GTZAN dataset, 2013). With one collection on both sides it
measures recognition of the collection, which inflates it by up to forty; see `unseen`.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from acoustic.data.groups import group_hash, group_key, joined
from acoustic.data.sources import Row
from acoustic.errors import ConfigError

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid")

MIN_COLLECTIONS = 10
"""Fewest collections that are held out whole: of fewer, a fifth would be one or none."""


def with_known_splits(
    rows: Sequence[Row], trained_groups: Collection[str], is_held_out: bool
) -> list[Row]:
    """The rows, with the split that follows from the groups that a checkpoint was trained on.

    Args:
        rows: recordings.
        trained_groups: hashes of those groups; empty if they are not known.
        is_held_out: whether the checkpoint is to be tested: then the groups say how its training
            divided these data, whatever ratio and seed it had.
    """
    known = set(trained_groups)
    trained = [group_hash(group_key(row)) in known for row in rows]
    rest = SPLITS[1] if is_held_out and any(trained) else ""
    return [
        row if row.split else replace(row, split=SPLITS[0] if flag else rest)
        for row, flag in zip(rows, trained, strict=True)
    ]


def assign_splits(rows: Sequence[Row], valid_ratio: float, seed: int) -> list[str]:
    """Split of every row: the stated one, else drawn by group and stratified by genre.

    Args:
        rows: rows of all data sets.
        valid_ratio: share of the recordings without a split that are held out, in (0, 0.5].
        seed: random seed of the draw.

    Returns:
        "train" or "valid" per row.

    Raises:
        ConfigError: an unknown split, a `valid_ratio` outside its limits, too few groups to hold
            any out, or a group in two splits.
    """
    splits = [row.split for row in rows]
    unknown = sorted(set(splits) - {*SPLITS, ""})
    if unknown:
        raise ConfigError(f"split is {unknown[0]!r}, known are {' and '.join(SPLITS)}")
    groups = _joined_rows(rows)
    _follow_stated(splits, groups)
    by_collection = _joined_collections(rows, groups)
    if by_collection is not None:
        groups = by_collection
        _follow_stated(splits, groups)
    open_rows = [i for i, split in enumerate(splits) if not split]
    if open_rows:
        drawn = _draw([rows[i] for i in open_rows], groups[open_rows], valid_ratio, seed)
        for i, is_valid in zip(open_rows, drawn, strict=True):
            splits[i] = SPLITS[int(is_valid)]
    refuse_split_groups(rows, splits)
    return splits


def refuse_split_groups(rows: Sequence[Row], splits: Sequence[str]) -> None:
    """Check that no group and no recording is on both sides of the split.

    Raises:
        ConfigError: a group or recording is on both sides.
    """
    side: dict[str, str] = {}
    for row, split in zip(rows, splits, strict=True):
        keys = [group_key(row)] + ([f"track {row.track}"] if row.track else [])
        keys += [f"content of {row.file}"] if row.content else []
        for key in keys:
            # copies have other names: they are known by their content
            known = row.content if key.startswith("content of ") else key
            if side.setdefault(known, split) != split:
                raise ConfigError(
                    f"{key!r} is in two splits, which inflates the accuracy: keep it in one"
                )


def _joined_rows(rows: Sequence[Row]) -> npt.NDArray[np.int64]:
    tracks = [row.track or f"row {i}" for i, row in enumerate(rows)]
    groups = joined([group_key(row) for row in rows], tracks)
    contents = [row.content or f"row {i}" for i, row in enumerate(rows)]
    return joined([str(group) for group in groups], contents)


def _joined_collections(
    rows: Sequence[Row], groups: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64] | None:
    """The groups joined by collection, or None where they are too few to hold whole ones out."""
    merged = joined([str(group) for group in groups], [row.collection for row in rows])
    return merged if len(np.unique(merged)) >= MIN_COLLECTIONS else None


def _follow_stated(splits: list[str], groups: npt.NDArray[np.int64]) -> None:
    """Give rows without a split the stated split of their group, in place.

    Where a group has both, its other rows are trained on: they cannot test anything.
    """
    stated: dict[np.int64, str] = {}
    for group, split in zip(groups, splits, strict=True):
        if split:
            stated[group] = split if stated.get(group, split) == split else SPLITS[0]
    for i, group in enumerate(groups):
        splits[i] = splits[i] or stated.get(group, "")


def _draw(
    rows: Sequence[Row], groups: npt.NDArray[np.int64], valid_ratio: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Draw whole groups to hold out: (K,) whether each row is held out."""
    from sklearn.model_selection import StratifiedGroupKFold

    if not 0 < valid_ratio <= 0.5:
        raise ConfigError(f"valid_ratio is {valid_ratio}, limits are above 0 to 0.5")
    if not any(row.group for row in rows):
        logger.warning(
            "no groups (artists or albums) are known: songs of one artist may be on both sides "
            "of the split, which inflates the accuracy"
        )
    # A share a / b holds out a of b equal folds; b ≤ 20 keeps the folds large enough.
    share = max(Fraction(valid_ratio).limit_denominator(20), Fraction(1, 20))
    n_folds = share.denominator
    genres = np.array([row.genre for row in rows])
    if len(set(groups)) < n_folds or Counter(genres).most_common(1)[0][1] < n_folds:
        raise ConfigError(
            f"{len(rows)} recordings in {len(set(groups))} groups cannot be split {n_folds} ways: "
            "add recordings or a split column"
        )
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the warning below names rare genres
        parts = [valid for _, valid in folds.split(np.zeros(len(rows)), genres, groups)]
    chosen = np.zeros(len(rows), bool)
    chosen[np.concatenate(parts[: share.numerator])] = True
    _return_whole_genres(chosen, genres, groups)
    missing = sorted(set(genres) - set(genres[chosen]))
    if missing:
        logger.warning("no recording of %s in the valid split: too few groups", ", ".join(missing))
    return chosen


def _return_whole_genres(
    chosen: npt.NDArray[np.bool_],
    genres: npt.NDArray[np.str_],
    groups: npt.NDArray[np.int64],
) -> None:
    """Return every genre that was held out with all its groups to training, in place."""
    for genre in sorted(set(genres) - set(genres[~chosen])):
        chosen[np.isin(groups, groups[genres == genre])] = False
