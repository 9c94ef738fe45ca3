"""Drift of the confidences: recent answers against those the calibration was fitted on.

The measure is the population stability index over the ten bins between the deciles of the
calibration's confidences: Σ (p − 0.1) · ln(p / 0.1), where p is the share of the recent answers in
a bin. By convention, up to 0.1 means no change and above 0.25 a large one. It detects a change of
the confidences only: music of another kind that gets the same confidence is not detected.

Source: Siddiqi, Credit Risk Scorecards (2006), chapter 6.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from acoustic.postprocess.calibration import Calibration

N_BINS = 10
N_RECENT = 1000
MIN_ANSWERS = 200
"""Smallest sample: n times the index is about χ² with 9 degrees of freedom, so chance alone gives
9 / n, or 0.045 at 200 answers."""

SMOOTHING = 0.5
"""Answers added to every bin, so that an empty one does not make the index infinite."""


class ConfidenceDrift:
    """Population stability index of the confidences of the most recent answers.

    Args:
        calibration: calibration whose `confidence_deciles` are the reference.
        n_recent: number of most recent answers that the index covers.
    """

    def __init__(self, calibration: Calibration, n_recent: int = N_RECENT) -> None:
        self._calibration = calibration
        self._bins: deque[int] = deque(maxlen=n_recent)

    def add(self, confidence: float, n_windows: int) -> None:
        """Record one answer.

        Args:
            confidence: probability of the answered genre, 0 to 1.
            n_windows: number of windows evaluated; it selects the deciles, because more windows
                give higher confidences.
        """
        deciles = self._calibration.at(n_windows).confidence_deciles
        if deciles:  # nine inner edges give the bins 0 to 9
            self._bins.append(int(np.searchsorted(deciles, confidence, side="right")))

    def value(self) -> float | None:
        """The index, 0 or more; None with fewer than MIN_ANSWERS answers."""
        if len(self._bins) < MIN_ANSWERS:
            return None
        counts = np.bincount(self._bins, minlength=N_BINS) + SMOOTHING
        shares = counts / counts.sum()
        return float(((shares - 1 / N_BINS) * np.log(shares * N_BINS)).sum())
