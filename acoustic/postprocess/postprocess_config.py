"""Settings of stage 3."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import get_args

from acoustic.errors import InvalidOptionError
from acoustic.postprocess.aggregation import Aggregation
from acoustic.postprocess.conformal import SET_METHODS, SetMethod
from acoustic.postprocess.reasons import ReviewThresholds
from acoustic.postprocess.rules import Rule
from acoustic.postprocess.taxonomy import Taxonomy
from acoustic.request import check_coverage


@dataclass(frozen=True, kw_only=True, slots=True)
class PostprocessConfig:
    """Settings of stage 3.

    Attributes:
        aggregation: how the windows' probabilities become the track's: "mean_probability",
            "mean_logit" or "vote" (the guide's 4.1).
        temperature: fixed divisor of the logits, above 0 (the guide's 4.2 has 1.3 to 1.5); null
            for the fitted ones. There are no prediction sets with it.
        coverage: coverage of the prediction set where the caller asks for no other, 0.50 to 0.99.
        set_method: method of the prediction set: "lac", "aps" or "raps"; see `conformal`.
        auto_margin: lead of the best genre over the second, in [0, 1], below which effort auto
            evaluates another round.
        rules: music-knowledge rules, in the order in which they are applied.
        review: thresholds of the review flag.
        taxonomies: how genres are joined, renamed or left out, for callers who ask for one by name.
    """

    aggregation: Aggregation = "mean_probability"
    temperature: float | None = None
    coverage: float = 0.9
    set_method: SetMethod = "lac"
    auto_margin: float = 0.2
    rules: tuple[Rule, ...] = ()
    review: ReviewThresholds = field(default_factory=ReviewThresholds)
    taxonomies: tuple[Taxonomy, ...] = ()

    def __post_init__(self) -> None:
        if self.aggregation not in get_args(Aggregation):
            raise ValueError(f"unknown aggregation {self.aggregation!r}")
        if self.set_method not in SET_METHODS:
            raise ValueError(f"unknown set_method {self.set_method!r}")
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature is {self.temperature}, must be above 0")
        try:
            check_coverage(self.coverage)
        except InvalidOptionError as error:
            raise ValueError(error.message) from error
        names = [taxonomy.name for taxonomy in self.taxonomies]
        if len(set(names)) < len(names) or not all(names):
            raise ValueError(f"taxonomies need different names, got {names}")
        if not 0 <= self.auto_margin <= 1:
            raise ValueError(f"auto_margin is {self.auto_margin}, limits are 0 to 1")
