"""Bootstrap intervals, weights, and folds that keep groups together: used by fits and measures.

Shapes: K tracks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from acoustic.data.groups import joined
from acoustic.errors import ConfigError
from acoustic.fitting.tracks import Tracks

N_BOOTSTRAP = 1000
N_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % bootstrap interval over tracks, or over clusters of them."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """JSON form, rounded to four digits."""
        return {name: round(number, 4) for name, number in asdict(self).items()}

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"


def bootstrap(
    statistic: Callable[..., float],
    *arrays: npt.NDArray[np.generic],
    seed: int = 0,
    clusters: npt.NDArray[np.str_] | None = None,
) -> Interval:
    """A statistic with its percentile interval.

    Args:
        statistic: function of the arrays.
        arrays: each with K rows; rows are resampled together.
        seed: random seed of the resampling.
        clusters: (K,) names of clusters, such as collections, which are resampled whole: tracks of
            one collection are right or wrong together. None resamples single tracks.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    >>> coin = np.array([True, False] * 100)
    >>> bootstrap(lambda flags: float(flags.mean()), coin).value
    0.5
    """
    drawn = [
        statistic(*(array[chosen] for array in arrays))
        for chosen in _resamples(len(arrays[0]), clusters, np.random.default_rng(seed))
    ]
    finite = [value for value in drawn if np.isfinite(value)]
    value = statistic(*arrays)
    low, high = np.percentile(finite, (2.5, 97.5)) if finite else (value, value)
    return Interval(value, float(low), float(high))


def _resamples(
    n: int, clusters: npt.NDArray[np.str_] | None, rng: np.random.Generator
) -> Iterator[npt.NDArray[np.int64]]:
    """Indices of the rows of each resample."""
    if clusters is None:
        yield from rng.integers(n, size=(N_BOOTSTRAP, n))
        return
    _, number = np.unique(clusters, return_inverse=True)
    members = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
    for chosen in rng.integers(len(members), size=(N_BOOTSTRAP, len(members))):
        yield np.concatenate([members[i] for i in chosen])


def collection_weights(tracks: Tracks) -> npt.NDArray[np.float64]:
    """(K,) weights of mean 1 with which every collection counts the same."""
    _, number, counts = np.unique(tracks.collections, return_inverse=True, return_counts=True)
    return np.asarray(len(tracks) / (len(counts) * counts[number]))


def leave_one_out_folds(tracks: Tracks) -> npt.NDArray[np.int64]:
    """(K,) numbers of folds: one for each unseen collection; other tracks as in `group_folds`."""
    folds = group_folds(tracks, seed=0)
    _, number = np.unique(tracks.collections, return_inverse=True)
    return np.asarray(np.where(tracks.unseen, number + folds.max() + 1, folds), np.int64)


def group_folds(tracks: Tracks, seed: int) -> npt.NDArray[np.int64]:
    """(K,) number of each track's fold; groups, unseen collections and repeats stay together.

    Args:
        tracks: K tracks of at least two groups.
        seed: random seed of the draw.

    Raises:
        ConfigError: all tracks are of one group.
    """
    from sklearn.model_selection import GroupKFold

    groups = joined(list(tracks.groups), list(tracks.recordings))
    # a collection that was trained on has no other that is like it: its artists are dealt out
    wholes = [
        f"collection {name}" if is_unseen else f"group {group}"
        for name, is_unseen, group in zip(tracks.collections, tracks.unseen, groups, strict=True)
    ]
    groups = joined([str(group) for group in groups], wholes)
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        raise ConfigError(
            "all valid tracks are of one group: at least two are needed to fit on one and "
            "evaluate on the other"
        )
    folds = np.empty(len(tracks), np.int64)
    splits = GroupKFold(min(N_FOLDS, n_groups), shuffle=True, random_state=seed)
    for number, (_, held_out) in enumerate(splits.split(tracks.labels, groups=groups)):
        folds[held_out] = number
    return folds
