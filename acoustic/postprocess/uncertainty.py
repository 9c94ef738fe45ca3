"""Uncertainty of a prediction: six measures in [0, 1], 0 = certain.

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
    Logits,
    Probabilities,
    WindowCalibration,
    calibrated_probabilities,
    sigmoid,
)
from acoustic.prediction import Uncertainty

SOFTENING = 2.0
"""Multiple of the temperature at which windows are compared: overconfident windows count less, and
spliced tracks differ more from whole ones."""

# of the 95th percentile in _on_scale, which maps it to 0.95
P95_LOG_ODDS = math.log(0.95 / 0.05)


def measure_uncertainty(
    probabilities: Probabilities,
    logits: Logits,
    distance: float | None,
    music: float | None,
    calibration: WindowCalibration,
) -> Uncertainty:
    """All measures of one track.

    Args:
        probabilities: (C,) probabilities of the track, C ≥ 2.
        logits: (S, C) logits of its windows, in the order of time.
        distance: distance of its features from the training data, None if unknown.
        music: mean log-odds of music over other sounds, None if unknown.
        calibration: temperature and scales of the distance, for S windows.
    """
    return Uncertainty(
        entropy=normalised_entropy(probabilities),
        margin=inverse_margin(probabilities),
        variation_ratio=variation_ratio(logits),
        segment_disagreement=segment_disagreement(logits, calibration.temperature),
        distance=training_distance(logits, distance, calibration),
        not_music=unlike_music(music, calibration),
    )


def normalised_entropy(probabilities: Probabilities) -> float:
    """Entropy over its maximum log C: 0 for one certain class, 1 for a uniform distribution."""
    return float(np.clip(entropy(probabilities) / np.log(probabilities.size), 0.0, 1.0))


def inverse_margin(probabilities: Probabilities) -> float:
    """1 − (best − second-best probability): 0 is certain, 1 is a tie."""
    second, best = np.sort(probabilities)[-2:]
    return float(np.clip(1.0 - (best - second), 0.0, 1.0))


def variation_ratio(logits: Logits) -> float:
    """Share of windows whose best genre is not the most frequent one; 0 for one window."""
    votes = np.bincount(logits.argmax(axis=1))
    return float(1.0 - votes.max() / len(logits))


def segment_disagreement(logits: Logits, temperature: float) -> float:
    """Largest Jensen-Shannon divergence, in bits, between the windows before and after a cut.

    Each side is weighted by its number of windows. 0 for one window; 1 if two halves are certain
    of two different genres.

    Args:
        logits: (S, C) in the order of time.
        temperature: temperature of the calibrated probabilities, positive.
    """
    windows = calibrated_probabilities(logits, SOFTENING * temperature)
    n = len(windows)
    # A cut after k of n windows has the divergence H(mean of all) − k/n · H(mean of the first k)
    # − (n − k)/n · H(mean of the rest). Running sums give all n − 1 cuts at once: (n − 1, C).
    before = windows.cumsum(axis=0)[:-1]
    after = windows.sum(axis=0) - before
    share = np.arange(1, n)[:, None] / n
    parts = share[:, 0] * entropy(before / (share * n))
    parts = parts + (1 - share[:, 0]) * entropy(after / ((1 - share) * n))
    divergence = (entropy(windows.mean(axis=0)) - parts) / np.log(2)
    # initial: a single window has no cut
    return float(np.clip(divergence.max(initial=0.0), 0.0, 1.0))


def training_distance(
    logits: Logits, distance: float | None, calibration: WindowCalibration
) -> float | None:
    """Distance of a track from the training data, in [0, 1] on the scale of calibration tracks.

    The larger of the neighbour distance of the features and the energy of the logits; None if
    neither has a scale.
    """
    values = {"neighbours": distance, "energy": energy(logits)}
    found = [
        _on_scale(value, scale)
        for name, value in values.items()
        if value is not None and (scale := calibration.scales.get(name)) is not None
    ]
    return max(found, default=None)


def unlike_music(music: float | None, calibration: WindowCalibration) -> float | None:
    """How unlike music a track is, in [0, 1] on the scale of calibration tracks; None if unknown.

    Without such a scale it is the probability that the sound is not music.

    Args:
        music: mean log-odds of music over other sounds.
        calibration: scale of their negative, "not_music".
    """
    if music is None:
        return None
    scale = calibration.scales.get("not_music")
    return float(sigmoid(np.array(-music))) if scale is None else _on_scale(-music, scale)


def energy(logits: Logits) -> float:
    """Mean over the windows of −log Σ exp(logits): high where no genre has a high logit."""
    # the maximum is taken out of the sum, so that exp cannot overflow
    highest = logits.max(axis=1, keepdims=True).astype(np.float64)
    sums = np.exp(logits - highest).sum(axis=1)
    return -float(np.mean(highest[:, 0] + np.log(sums)))


def _on_scale(value: float, scale: tuple[float, float]) -> float:
    """Logistic through 0.5 at the calibration tracks' median and 0.95 at their 95th percentile."""
    median, p95 = scale
    # 1e-9: no division by zero if all calibration tracks are alike; ±30 keeps exp in range
    log_odds = P95_LOG_ODDS * (value - median) / max(p95 - median, 1e-9)
    return float(1 / (1 + np.exp(np.clip(-log_odds, -30, 30))))


def entropy(probabilities: Probabilities) -> npt.NDArray[np.float64]:
    """Entropy over the last axis, in nats."""
    # 0 · log 0 counts as 0
    safe = np.where(probabilities > 0, probabilities, 1.0)
    return np.asarray(-(probabilities * np.log(safe)).sum(axis=-1))
