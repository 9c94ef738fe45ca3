"""Bootstrap intervals, and folds that keep groups together: used by every fit and measure.

Shapes: K tracks.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """A value with its 95 % bootstrap interval over tracks."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """JSON form, rounded to four digits."""
        return {name: round(number, 4) for name, number in asdict(self).items()}

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"


def bootstrap(
    statistic: Callable[..., float], *arrays: npt.NDArray[np.generic], seed: int = 0
) -> Interval:
    """A statistic with its percentile interval.

    Args:
        statistic: function of the arrays.
        arrays: each with K rows; rows are resampled together.
        seed: random seed of the resampling.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    >>> coin = np.array([True, False] * 100)
    >>> bootstrap(lambda flags: float(flags.mean()), coin).value
    0.5
    """
    rng = np.random.default_rng(seed)
    n = len(arrays[0])
    drawn = [
        statistic(*(array[chosen] for array in arrays))
        for chosen in rng.integers(n, size=(N_BOOTSTRAP, n))
    ]
    finite = [value for value in drawn if np.isfinite(value)]
    value = statistic(*arrays)
    low, high = np.percentile(finite, (2.5, 97.5)) if finite else (value, value)
    return Interval(value, float(low), float(high))


def group_folds(tracks: Tracks, seed: int) -> npt.NDArray[np.int64]:
    """(K,) number of each track's fold; groups and repeats of a recording stay together.

    Args:
        tracks: K tracks of at least two groups.
        seed: random seed of the draw.

    Raises:
        ConfigError: all tracks are of one group.
    """
    from sklearn.model_selection import GroupKFold

    groups = joined(list(tracks.groups), list(tracks.recordings))
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
