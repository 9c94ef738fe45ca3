"""Music-knowledge rules: log-odds adjustments of genre probabilities from descriptors.

A rule names genres, a weight in log-odds, and conditions on the descriptors or the quality of the
sound; if all of them hold, the odds of its genres are multiplied by exp(log_odds) and the
distribution is normalised again. "× 0.3" in the guide (its section 4.2) is −1.2 log-odds.

Rules are off unless `acousticsense rules fit` has shown on held-out tracks that they help.
Shapes: C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from acoustic.errors import ConfigError
from acoustic.labels import GENRES, LabelSet
from acoustic.postprocess.calibration import Probabilities
from acoustic.prediction import AppliedRule
from acoustic.types import Descriptors, Quality, TrackFacts

DESCRIPTORS = tuple(field.name for field in fields(Descriptors))
QUALITIES = tuple(field.name for field in fields(Quality))
# largest |log_odds| of one rule: a factor of exp(5) ≈ 148
MAX_LOG_ODDS = 5.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """A bound on one number of the track.

    Attributes:
        feature: a field of Descriptors or Quality, such as "tempo_bpm".
        above: exclusive lower bound in the unit of the feature, or None.
        below: exclusive upper bound in the unit of the feature, or None.
    """

    feature: str
    above: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        if self.above is None and self.below is None:
            raise ValueError(f"a condition on {self.feature} needs above or below")

    def holds(self, value: float) -> bool:
        """Whether a value is within the bounds."""
        is_above = self.above is None or value > self.above
        return is_above and (self.below is None or value < self.below)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A change of the log-odds of some genres, under conditions on the track.

    Attributes:
        name: name of the rule, shown in the reply.
        when: conditions; the rule fires if all of them hold.
        genres: names or aliases of the genres whose odds change.
        log_odds: change of the log-odds, natural logarithm, within ±MAX_LOG_ODDS.
        enabled: whether the rule is applied.
    """

    name: str
    when: tuple[Condition, ...]
    genres: tuple[str, ...]
    log_odds: float
    enabled: bool = False

    def __post_init__(self) -> None:
        if not self.when or not self.genres:
            raise ValueError(f"rule {self.name!r} needs a condition and a genre")
        if not abs(self.log_odds) <= MAX_LOG_ODDS:
            raise ValueError(
                f"log_odds of rule {self.name!r} is {self.log_odds}, limits are ±{MAX_LOG_ODDS:g}"
            )


class Rules:
    """The enabled rules of a model, checked against its genres.

    Args:
        rules: all configured rules; disabled ones are checked for misspelt names, then ignored.
        labels: the C genres, in the order of the logits.

    Raises:
        ConfigError: an enabled rule names a genre that the model does not have, or any rule names
            an unknown genre or feature.
    """

    def __init__(self, rules: Sequence[Rule], labels: LabelSet) -> None:
        for rule in rules:
            check_names(rule, labels)
        self._active = [(rule, find_genres(rule, labels)) for rule in rules if rule.enabled]
        self._names = labels.names

    def apply(
        self, probabilities: Probabilities, facts: TrackFacts
    ) -> tuple[Probabilities, tuple[AppliedRule, ...]]:
        """The distribution after all rules that fire, in their order, and what each one did.

        Args:
            probabilities: (C,) calibrated.
            facts: what stage 1 found out about the same track.
        """
        applied = []
        for rule, genres in self._active:
            if not fires(rule, facts):
                continue
            changed = shift_odds(probabilities, genres, rule.log_odds)
            applied.append(
                AppliedRule(
                    name=rule.name,
                    genres=tuple(self._names[i] for i in genres),
                    log_odds=rule.log_odds,
                    before=float(probabilities[genres].sum()),
                    after=float(changed[genres].sum()),
                )
            )
            probabilities = changed
        return probabilities, tuple(applied)


def shift_odds(probabilities: Probabilities, genres: list[int], log_odds: float) -> Probabilities:
    """Multiply the odds of some genres by exp(log_odds) and normalise over the last axis."""
    weighted = probabilities.copy()
    weighted[..., genres] *= np.exp(log_odds)
    return np.asarray(weighted / weighted.sum(axis=-1, keepdims=True))


def fires(rule: Rule, facts: TrackFacts) -> bool:
    """Whether all conditions of a rule hold."""
    return all(each.holds(_value(each.feature, facts)) for each in rule.when)


def check_names(rule: Rule, labels: LabelSet) -> None:
    """Raise if a rule names an unknown feature or an unknown genre.

    A genre is known if the model or the default label set has it: a disabled rule may name genres
    that this model does not have.

    Raises:
        ConfigError: the rule names an unknown feature or genre.
    """
    for condition in rule.when:
        if condition.feature not in (*DESCRIPTORS, *QUALITIES):
            known = ", ".join((*DESCRIPTORS, *QUALITIES))
            raise ConfigError(
                f"rule {rule.name!r}: unknown feature {condition.feature!r}, known are {known}"
            )
    for genre in rule.genres:
        if genre not in labels and genre not in GENRES:
            raise ConfigError(f"rule {rule.name!r}: unknown genre {genre!r}")


def find_genres(rule: Rule, labels: LabelSet) -> list[int]:
    """Positions of a rule's genres among the model's labels.

    Raises:
        ConfigError: the rule names a genre that the model does not have, or an unknown feature.
    """
    check_names(rule, labels)
    for genre in rule.genres:
        if genre not in labels:
            raise ConfigError(f"rule {rule.name!r}: the model has no genre {genre!r}")
    return [labels.index(genre) for genre in rule.genres]


def fitting(rules: Sequence[Rule], labels: LabelSet) -> tuple[Rule, ...]:
    """Rules restricted to the genres of a model; rules that lose all genres are left out."""
    kept = [(rule, tuple(genre for genre in rule.genres if genre in labels)) for rule in rules]
    return tuple(replace(rule, genres=genres) for rule, genres in kept if genres)


def _value(feature: str, facts: TrackFacts) -> float:
    source = facts.descriptors if feature in DESCRIPTORS else facts.quality
    return float(getattr(source, feature))
