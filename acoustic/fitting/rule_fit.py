"""Fit the weight of each music-knowledge rule, and measure its gain on held-out tracks.

The weight of each rule is fitted by NLL on four fifths of the tracks and evaluated on the last
fifth, in folds of groups. Only a rule whose whole bootstrap interval of the gain is above 0 is
enabled. The tracks' own probabilities are cross-fitted too, so that nothing is evaluated on the
data that it was fitted on.

Shapes: K tracks, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from acoustic.data.dataset import Clip
from acoustic.data.windows import cut_windows
from acoustic.errors import ConfigError
from acoustic.fitting.intervals import bootstrap, group_folds
from acoustic.fitting.tracks import Tracks
from acoustic.geometry import MelConfig
from acoustic.labels import LabelSet
from acoustic.postprocess.calibration import Probabilities
from acoustic.postprocess.rules import DESCRIPTORS, MAX_LOG_ODDS, Rule, find_genres, shift_odds
from acoustic.preprocess.descriptors import describe
from acoustic.preprocess.mel import relative_db
from acoustic.types import Descriptors

MIN_FIRED = 20
"""Minimum number of tracks that a rule must fire on to be enabled."""

PENALTY = 0.5
"""Factor of the squared weight in the fit: keeps a rule that rarely fires from extreme weights."""

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedRule:
    """A rule with its fitted weight and its measured gain.

    Attributes:
        rule: the rule with its fitted weight, enabled if it helps.
        n_fired: number of tracks on which the rule fires.
        gain: mean decrease of a track's NLL by the rule, in nats, cross-fitted.
        low: lower end of the gain's 95 % bootstrap interval, in nats.
        high: upper end of the gain's 95 % bootstrap interval, in nats.
    """

    rule: Rule
    n_fired: int
    gain: float
    low: float
    high: float


def describe_clips(clips: Sequence[Clip], mel: MelConfig, n_windows: int) -> list[Descriptors]:
    """Descriptors of each clip, over windows spread as in serving."""
    found = []
    for clip in clips:
        windows = cut_windows(clip.log_mel, mel.n_frames, n_windows).astype(np.float32)
        described = mel.blocks[0]
        found.append(describe(relative_db(windows, mel)[:, : described.n_mels], described))
    return found


def fit_rules(
    rules: Sequence[Rule],
    probabilities: Probabilities,
    tracks: Tracks,
    descriptors: Sequence[Descriptors],
    labels: LabelSet,
) -> list[FittedRule]:
    """Fit and evaluate every rule independently of the others.

    Args:
        rules: rules to fit; their conditions may use descriptors only.
        probabilities: (K, C) probabilities, calibrated on other tracks.
        tracks: K tracks with their true genres and groups.
        descriptors: descriptors of the K tracks.
        labels: label set of the C genres.

    Raises:
        ConfigError: a rule names an unknown genre, or a feature that cannot be computed from a
            spectrogram.
    """
    folds = group_folds(tracks, seed=1)
    return [_fit(rule, probabilities, tracks.labels, descriptors, labels, folds) for rule in rules]


def fired(rule: Rule, descriptors: Sequence[Descriptors]) -> npt.NDArray[np.bool_]:
    """(K,) whether all conditions of a rule hold for each track."""
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
            f"rule {rule.name!r} cannot be fitted: "
            f"{unknown[0]} cannot be computed from a spectrogram"
        )
    mask = fired(rule, descriptors)
    # Cross-fitted gains: each fold uses the weight of the others; 0 where the rule does not fire.
    gains = np.zeros(len(truth))
    for fold in np.unique(folds):
        held_out = folds == fold
        weight = _weight(probabilities[mask & ~held_out], truth[mask & ~held_out], genres)
        chosen = mask & held_out
        gains[chosen] = _gains(probabilities[chosen], truth[chosen], genres, weight)
    interval = bootstrap(lambda values: float(values.mean()), gains)
    helps = interval.low > 0 and int(mask.sum()) >= MIN_FIRED
    # The gain belongs to the fold weights; the weight that ships is fitted on all tracks.
    weight = round(_weight(probabilities[mask], truth[mask], genres), 3)
    return FittedRule(
        rule=replace(rule, log_odds=weight, enabled=helps),
        n_fired=int(mask.sum()),
        gain=interval.value,
        low=interval.low,
        high=interval.high,
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
    """(K,) increase of the true genre's log-probability by the rule, in nats."""
    changed = shift_odds(probabilities, genres, weight)
    rows = np.arange(len(truth))
    ratio = np.maximum(changed[rows, truth], 1e-12) / np.maximum(probabilities[rows, truth], 1e-12)
    return np.asarray(np.log(ratio))
