"""What music-knowledge rules are worth on held-out tracks.

The weight of each rule is fitted by NLL on four fifths of the tracks and judged on the last fifth,
by folds of groups; only a rule whose gain is beyond its bootstrap interval is enabled. The tracks'
own probabilities are cross-fitted too, so that nothing is judged by what it was fitted on.

Shapes: K tracks, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from acoustic.errors import ConfigError
from acoustic.labels import LabelSet
from acoustic.postprocess.calibration import Probabilities
from acoustic.postprocess.rules import DESCRIPTORS, MAX_LOG_ODDS, Rule, find_genres, shift_odds
from acoustic.preprocess.descriptors import describe
from acoustic.preprocess.mel import MelConfig
from acoustic.training.dataset import Clip
from acoustic.training.splits import joined
from acoustic.training.tracks import Tracks
from acoustic.training.validate import cut_windows
from acoustic.types import Descriptors

N_FOLDS = 5
MIN_FIRED = 20
"""A rule that fires on fewer tracks cannot be judged."""

PENALTY = 0.5
"""Of the squared weight, per fit: a rule that hardly fires gets no extreme weight."""

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedRule:
    """A rule with the weight that was found, and what it is worth.

    Attributes:
        rule: with its new weight, enabled where it helps.
        n_fired: tracks on which it fires.
        gain: mean NLL that it takes off a track, in nats, cross-fitted.
        low: of the gain's 95 % bootstrap interval. high: likewise.
    """

    rule: Rule
    n_fired: int
    gain: float
    low: float
    high: float


def describe_clips(clips: Sequence[Clip], mel: MelConfig, n_windows: int) -> list[Descriptors]:
    """Descriptors of each clip, over windows as the service hears them."""
    found = []
    for clip in clips:
        windows = cut_windows(clip.log_mel, mel.n_frames, n_windows).astype(np.float32)
        found.append(describe(windows * (mel.top_db / 255) - mel.top_db, mel))
    return found


def fit_rules(
    rules: Sequence[Rule],
    probabilities: Probabilities,
    tracks: Tracks,
    descriptors: Sequence[Descriptors],
    labels: LabelSet,
) -> list[FittedRule]:
    """Every rule by itself.

    Args:
        rules: to be fitted; conditions on descriptors only.
        probabilities: (K, C) calibrated by other tracks.
        tracks: with the truth and the groups.
        descriptors: of the K tracks.
        labels: the C genres.

    Raises:
        ConfigError: a rule names an unknown genre or feature, or one that a spectrogram cannot
            tell.
    """
    folds = _folds(tracks)
    return [_fit(rule, probabilities, tracks.labels, descriptors, labels, folds) for rule in rules]


def fired(rule: Rule, descriptors: Sequence[Descriptors]) -> npt.NDArray[np.bool_]:
    """(K,) whether all conditions hold."""
    return np.array(
        [all(c.holds(getattr(each, c.feature)) for c in rule.when) for each in descriptors], bool
    )


def _fit(
    rule: Rule,
    probabilities: Probabilities,
    truth: Labels,
    descriptors: Sequence[Descriptors],
    labels: LabelSet,
    folds: npt.NDArray[np.int64],
) -> FittedRule:
    genres = find_genres(rule, labels)
    unknown = [c.feature for c in rule.when if c.feature not in DESCRIPTORS]
    if unknown:
        raise ConfigError(
            f"rule {rule.name!r}: {unknown[0]} is not told by a spectrogram, it cannot be fitted"
        )
    mask = fired(rule, descriptors)
    gains = np.zeros(len(truth))
    for fold in np.unique(folds):
        held_out = folds == fold
        weight = _weight(probabilities[mask & ~held_out], truth[mask & ~held_out], genres)
        chosen = mask & held_out
        gains[chosen] = _gains(probabilities[chosen], truth[chosen], genres, weight)
    low, high = _interval(gains)
    helps = low > 0 and int(mask.sum()) >= MIN_FIRED
    weight = round(_weight(probabilities[mask], truth[mask], genres), 3)
    return FittedRule(
        rule=replace(rule, log_odds=weight, enabled=helps),
        n_fired=int(mask.sum()),
        gain=float(gains.mean()),
        low=low,
        high=high,
    )


def _weight(probabilities: Probabilities, truth: Labels, genres: list[int]) -> float:
    from scipy.optimize import minimize_scalar

    if not len(truth):
        return 0.0
    result = minimize_scalar(
        lambda w: PENALTY * w**2 - _gains(probabilities, truth, genres, float(w)).sum(),
        bounds=(-MAX_LOG_ODDS, MAX_LOG_ODDS),
        method="bounded",
    )
    return float(result.x)


def _gains(
    probabilities: Probabilities, truth: Labels, genres: list[int], weight: float
) -> npt.NDArray[np.float64]:
    """(K,) nats by which the truth becomes more probable."""
    changed = shift_odds(probabilities, genres, weight)
    rows = np.arange(len(truth))
    ratio = np.maximum(changed[rows, truth], 1e-12) / np.maximum(probabilities[rows, truth], 1e-12)
    return np.asarray(np.log(ratio))


def _folds(tracks: Tracks) -> npt.NDArray[np.int64]:
    from sklearn.model_selection import GroupKFold

    groups = joined(list(tracks.groups), list(tracks.recordings))
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        raise ConfigError("all valid tracks are of one group: there is nothing to judge a rule by")
    folds = np.empty(len(tracks), np.int64)
    splits = GroupKFold(min(N_FOLDS, n_groups), shuffle=True, random_state=1)
    for number, (_, held_out) in enumerate(splits.split(tracks.labels, groups=groups)):
        folds[held_out] = number
    return folds


def _interval(gains: npt.NDArray[np.float64]) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    drawn = gains[rng.integers(len(gains), size=(1000, len(gains)))].mean(axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)
