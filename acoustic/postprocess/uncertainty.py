"""How unsure a prediction is: five numbers in [0, 1], 0 = sure.

Sources: the guide's section 4.2 for entropy, margin and variation ratio (Freeman, Elementary
Applied Statistics, 1965); Lin, Divergence Measures Based on the Shannon Entropy (1991), for the
disagreement of segments; Liu et al., Energy-based Out-of-distribution Detection (2020), for the
energy that is one half of the distance.
Shapes: S windows, C classes.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from acoustic.postprocess.calibration import (
    Calibration,
    Logits,
    Probabilities,
    calibrated_probabilities,
)
from acoustic.prediction import Uncertainty

SOFTENING = 2.0
"""Windows are compared at this multiple of the temperature: so a window's overconfidence counts
less, and spliced tracks stand out more from whole ones."""

P95_LOG_ODDS = math.log(0.95 / 0.05)


def measure_uncertainty(
    probabilities: Probabilities,
    logits: Logits,
    distance: float | None,
    calibration: Calibration,
) -> Uncertainty:
    """All measures of one track.

    Args:
        probabilities: (C,) of the track, C ≥ 2.
        logits: (S, C) of its windows, in the order of time.
        distance: of its features from the training data, None if unknown.
        calibration: with the temperature and the scales of the distance.
    """
    return Uncertainty(
        entropy=normalised_entropy(probabilities),
        margin=inverse_margin(probabilities),
        variation_ratio=variation_ratio(logits),
        segment_disagreement=segment_disagreement(logits, calibration.temperature(len(logits))),
        distance=training_distance(logits, distance, calibration),
    )


def normalised_entropy(probabilities: Probabilities) -> float:
    """Entropy over its maximum log C: 0 for one certain class, 1 for a uniform distribution."""
    return float(np.clip(_entropy(probabilities) / np.log(probabilities.size), 0.0, 1.0))


def inverse_margin(probabilities: Probabilities) -> float:
    """1 − (best − second best)."""
    second, best = np.sort(probabilities)[-2:]
    return float(np.clip(1.0 - (best - second), 0.0, 1.0))


def variation_ratio(logits: Logits) -> float:
    """Share of windows outside the most frequent genre; 0 for one window."""
    votes = np.bincount(logits.argmax(axis=1))
    return float(1.0 - votes.max() / len(logits))


def segment_disagreement(logits: Logits, temperature: float) -> float:
    """Largest Jensen-Shannon divergence, in bits, of what comes before and after some point.

    Each side weighs by its number of windows. 0 for one window; 1 where two halves are certain
    of two genres.

    Args:
        logits: (S, C) in the order of time.
        temperature: of calibrated probabilities.
    """
    windows = calibrated_probabilities(logits, SOFTENING * temperature)
    n = len(windows)
    before = windows.cumsum(axis=0)[:-1]
    after = windows.sum(axis=0) - before
    share = np.arange(1, n)[:, None] / n
    parts = share[:, 0] * _entropy(before / (share * n))
    parts = parts + (1 - share[:, 0]) * _entropy(after / ((1 - share) * n))
    divergence = (_entropy(windows.mean(axis=0)) - parts) / np.log(2)
    return float(np.clip(divergence.max(initial=0.0), 0.0, 1.0))


def training_distance(
    logits: Logits, distance: float | None, calibration: Calibration
) -> float | None:
    """The larger of two distances from the training data, on the scale of calibration tracks.

    One is that of the features to their neighbours, the other the energy of the logits.
    """
    values = {"neighbours": distance, "energy": energy(logits)}
    found = [
        _on_scale(value, scale)
        for name, value in values.items()
        if value is not None and (scale := calibration.scale(name, len(logits))) is not None
    ]
    return max(found, default=None)


def energy(logits: Logits) -> float:
    """Mean over the windows of −log Σ exp(logits): high where no genre is spoken for."""
    highest = logits.max(axis=1, keepdims=True).astype(np.float64)
    sums = np.exp(logits - highest).sum(axis=1)
    return -float(np.mean(highest[:, 0] + np.log(sums)))


def _on_scale(value: float, scale: tuple[float, float]) -> float:
    """Logistic through 0.5 at the calibration tracks' median and 0.95 at their 95th percentile."""
    median, p95 = scale
    log_odds = P95_LOG_ODDS * (value - median) / max(p95 - median, 1e-9)
    return float(1 / (1 + np.exp(np.clip(-log_odds, -30, 30))))


def _entropy(probabilities: Probabilities) -> npt.NDArray[np.float64]:
    """Over the last axis, in nats."""
    safe = np.where(probabilities > 0, probabilities, 1.0)
    return np.asarray(-(probabilities * np.log(safe)).sum(axis=-1))
