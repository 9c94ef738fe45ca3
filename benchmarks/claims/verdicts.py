"""Verdict on a claimed effect, from its measured interval.

    supported      the effect is above 0, and less than claimed
    reproduced     the effect is above 0, and its interval reaches what was claimed
    refuted        its interval stays below the claim, and does not exclude 0 or harm
    inconclusive   its interval holds both 0 and the claim

Advice without a figure is tested as a claim of an effect above 0: it is supported, refuted if the
effect is below 0, or inconclusive.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from acoustic.fitting.intervals import Interval, bootstrap


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One claim, re-tested.

    Attributes:
        technique: what was claimed to help, with the guide's section.
        setting: data and conditions of the measurement.
        unit: unit of the effect, "accuracy" or "NLL".
        claimed: claimed effect in `unit`, or None for advice without a figure.
        effect: measured effect in `unit`, positive is better, paired over tracks.
    """

    technique: str
    setting: str
    unit: str
    claimed: float | None
    effect: Interval

    @property
    def verdict(self) -> str:
        """Verdict: "supported", "reproduced", "refuted" or "inconclusive"; see the module."""
        if self.claimed is None:
            if self.effect.low > 0:
                return "supported"
            return "refuted" if self.effect.high < 0 else "inconclusive"
        if self.effect.low > 0:
            return "reproduced" if self.effect.high >= self.claimed else "supported"
        return "refuted" if self.effect.high < self.claimed else "inconclusive"

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "technique": self.technique,
            "setting": self.setting,
            "unit": self.unit,
            "claimed": self.claimed,
            "effect": self.effect.to_dict(),
            "verdict": self.verdict,
        }


def paired_effect(after: np.ndarray, before: np.ndarray) -> Interval:
    """Mean of after − before, with its interval; rows are the same tracks.

    Args:
        after: (K,) or (K, conditions) flags or scores, larger is better.
        before: flags or scores of the same tracks and shape, for the alternative.
    """
    difference = np.asarray(after, float) - np.asarray(before, float)
    return bootstrap(_mean, difference)


def mean_interval(values: np.ndarray) -> dict[str, float]:
    """Mean of (K,) or (K, conditions) values over all, with its interval over tracks."""
    return bootstrap(_mean, np.asarray(values, float)).to_dict()


_mean: Callable[..., float] = lambda values: float(values.mean())  # noqa: E731
