"""Whether the answers of today are as sure as those that the calibration was fitted on.

The measure is the population stability index over the ten bins that the deciles of the
calibration's confidences make: Σ (p − 0.1) · ln(p / 0.1). As usual, up to 0.1 is no change, above
0.25 a large one. It sees a change of the confidences only; music of another kind that is answered
with the same confidence passes unseen.

Source: Siddiqi, Credit Risk Scorecards (2006), chapter 6.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from acoustic.postprocess.calibration import Calibration

N_BINS = 10
N_RECENT = 1000
MIN_ANSWERS = 200
"""Chance alone gives about 9 / n: 0.045 at 200 answers."""

SMOOTHING = 0.5
"""Answers added to every bin, so that an empty one does not make the index infinite."""


class ConfidenceDrift:
    """The index of the most recent answers.

    Args:
        calibration: whose `confidence_deciles` are the reference.
        n_recent: answers that count.
    """

    def __init__(self, calibration: Calibration, n_recent: int = N_RECENT) -> None:
        self._calibration = calibration
        self._bins: deque[int] = deque(maxlen=n_recent)

    def add(self, confidence: float, n_windows: int) -> None:
        """Count one answer.

        Args:
            confidence: probability of the answered genre.
            n_windows: that were heard: more windows give surer answers.
        """
        deciles = self._calibration.deciles(n_windows)
        if deciles is not None:
            self._bins.append(int(np.searchsorted(deciles, confidence, side="right")))

    def value(self) -> float | None:
        """The index, 0 or more; None while there are fewer than MIN_ANSWERS answers."""
        if len(self._bins) < MIN_ANSWERS:
            return None
        counts = np.bincount(self._bins, minlength=N_BINS) + SMOOTHING
        shares = counts / counts.sum()
        return float(((shares - 1 / N_BINS) * np.log(shares * N_BINS)).sum())
