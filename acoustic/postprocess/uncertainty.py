"""How unsure a prediction is: three numbers in [0, 1], 0 = sure.

Source: the guide's section 4.2; entropy and margin are textbook active-learning measures, the
variation ratio is Freeman, Elementary Applied Statistics (1965).
Shapes: S windows, C classes.
"""

from __future__ import annotations

import numpy as np

from acoustic.postprocess.calibration import Logits, Probabilities
from acoustic.prediction import Uncertainty


def measure_uncertainty(probabilities: Probabilities, logits: Logits) -> Uncertainty:
    """All three measures of one track.

    Args:
        probabilities: (C,) of the track, C ≥ 2.
        logits: (S, C) of its windows.
    """
    return Uncertainty(
        entropy=normalised_entropy(probabilities),
        margin=inverse_margin(probabilities),
        variation_ratio=variation_ratio(logits),
    )


def normalised_entropy(probabilities: Probabilities) -> float:
    """Entropy over its maximum log C: 0 for one certain class, 1 for a uniform distribution."""
    positive = probabilities[probabilities > 0]
    entropy = -float((positive * np.log(positive)).sum()) / np.log(probabilities.size)
    return float(np.clip(entropy, 0.0, 1.0))


def inverse_margin(probabilities: Probabilities) -> float:
    """1 − (best − second best)."""
    second, best = np.sort(probabilities)[-2:]
    return float(np.clip(1.0 - (best - second), 0.0, 1.0))


def variation_ratio(logits: Logits) -> float:
    """Share of windows outside the most frequent genre; 0 for one window."""
    votes = np.bincount(logits.argmax(axis=1))
    return float(1.0 - votes.max() / len(logits))
