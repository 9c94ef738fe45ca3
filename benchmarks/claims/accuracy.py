"""The guide's claims about accuracy and calibration, re-tested on held-out tracks.

    ambiguous samples   + 11.4 points by voting over three segments and by rules (its 4.1, 4.2)
    noisy samples       + 13.8 points by spectral subtraction and compression (4.1)
    advice              T = 1.3 to 1.5, output smoothing of 0.05 to 0.1, the rules, a warning
                        above an uncertainty of 0.7 (4.2)

Another model, a support vector machine on hand-made features, selects the ambiguous tracks
beforehand: the third of the tracks with the smallest lead of its best genre over its second.

Shapes: K tracks, S windows of one track, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from acoustic.evaluation.metrics import entropies
from acoustic.fitting.calibrate import Calibrated
from acoustic.fitting.rule_fit import fired
from acoustic.fitting.scores import adaptive_ece
from acoustic.fitting.temperature import track_probabilities
from acoustic.fitting.tracks import Tracks
from acoustic.labels import LabelSet
from acoustic.postprocess.aggregation import aggregate
from acoustic.postprocess.calibration import Probabilities
from acoustic.postprocess.rules import Rule, find_genres, shift_odds
from acoustic.types import Descriptors
from benchmarks.claims.verdicts import Claim, mean_interval, paired_effect

AMBIGUOUS_CLAIMED = 0.114
AMBIGUOUS_RATIO = 1 / 3
GUIDE_TEMPERATURES = (1.3, 1.5)
GUIDE_FLOORS = (0.05, 0.1)
GUIDE_WARNING = 0.7
"""Normalised entropy, in [0, 1], above which the guide warns."""

Labels = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Subject:
    """What the claims are tested on.

    Attributes:
        tracks: K held-out tracks, each recording once.
        calibrated: the K tracks after stage 3, cross-fitted, ten windows.
        descriptors: descriptors of the K tracks, over three windows.
        margins: (K,) lead of the other model's best genre over its second.
        labels: the C genres.
        guide_rules: the guide's rules.
        review_accuracy: accuracy that the review threshold was fitted for.
    """

    tracks: Tracks
    calibrated: Calibrated
    descriptors: Sequence[Descriptors]
    margins: Scores
    labels: LabelSet
    guide_rules: Sequence[Rule]
    review_accuracy: float


def ambiguous_claims(subject: Subject) -> list[Claim]:
    """Claims about voting and rules, on the ambiguous tracks and on all valid tracks."""
    truth = subject.tracks.labels
    one = _right(_joined(subject, 1, "mean_probability"), truth)
    vote = _joined(subject, 3, "vote")
    mean = _joined(subject, 3, "mean_probability")
    ruled = apply_rules(vote, subject)
    ten = _joined(subject, 10, "mean_probability")
    voted = _right(vote, truth)
    pairs = [
        ("voting over 3 windows and rules, against one window", AMBIGUOUS_CLAIMED,
         _right(ruled, truth), one),
        ("voting over 3 windows, against one window", None, voted, one),
        ("voting, against the mean of the same 3 windows", None, voted, _right(mean, truth)),
        ("the rules, after the vote", None, _right(ruled, truth), voted),
        ("instead: the mean of 10 windows, against one window", None, _right(ten, truth), one),
    ]  # fmt: skip
    close = subject.margins <= np.quantile(subject.margins, AMBIGUOUS_RATIO)
    everything = np.ones(len(truth), bool)
    return [
        Claim(
            technique=f"{technique} (4.1, 4.2)",
            setting=f"{int(chosen.sum())} {setting} tracks",
            unit="accuracy",
            claimed=claimed,
            effect=paired_effect(after[chosen], before[chosen]),
        )
        for setting, chosen in (("ambiguous", close), ("valid", everything))
        for technique, claimed, after, before in pairs
    ]


def calibration_claims(subject: Subject) -> list[Claim]:
    """Claims about fixed temperatures, smoothing and a fitted temperature, against none."""
    logits, truth = subject.tracks.logits[10], subject.tracks.labels
    plain = _log_likelihood(track_probabilities(logits, 1.0), truth)
    fitted = _log_likelihood(subject.calibrated.probabilities, truth)
    variants: dict[str, Probabilities] = {
        f"a fixed temperature of {t}": track_probabilities(logits, t) for t in GUIDE_TEMPERATURES
    }
    for floor in GUIDE_FLOORS:
        variants[f"smoothing the output by {floor}"] = track_probabilities(logits, 1.0, floor)
    rows = [(name, _log_likelihood(p, truth)) for name, p in variants.items()]
    rows.append(("instead: a fitted temperature", fitted))
    return [
        Claim(
            technique=f"{name} (4.2)",
            setting=f"{len(truth)} valid tracks, against no calibration",
            unit="NLL",
            claimed=None,
            effect=paired_effect(found, plain),
        )
        for name, found in rows
    ]


def rule_claims(subject: Subject) -> list[Claim]:
    """Claims about the guide's rules on calibrated answers: NLL and accuracy."""
    truth, plain = subject.tracks.labels, subject.calibrated.probabilities
    ruled = apply_rules(plain, subject)
    setting = f"{len(truth)} valid tracks, after calibration"
    return [
        Claim(
            technique="the guide's rules (4.2)",
            setting=setting,
            unit="NLL",
            claimed=None,
            effect=paired_effect(_log_likelihood(ruled, truth), _log_likelihood(plain, truth)),
        ),
        Claim(
            technique="the guide's rules (4.2)",
            setting=setting,
            unit="accuracy",
            claimed=None,
            effect=paired_effect(_right(ruled, truth), _right(plain, truth)),
        ),
    ]


def measure_calibrations(subject: Subject) -> list[dict[str, Any]]:
    """Adaptive ECE and NLL of every temperature and smoothing."""
    logits, truth = subject.tracks.logits[10], subject.tracks.labels
    found = {"no calibration": track_probabilities(logits, 1.0)}
    found |= {f"T = {t}": track_probabilities(logits, t) for t in GUIDE_TEMPERATURES}
    found |= {f"smoothing {f}": track_probabilities(logits, 1.0, f) for f in GUIDE_FLOORS}
    found["fitted, cross-fitted"] = subject.calibrated.probabilities
    return [
        {
            "calibration": name,
            "adaptive_ece": round(adaptive_ece(p, truth), 4),
            "nll": mean_interval(-_log_likelihood(p, truth)),
        }
        for name, p in found.items()
    ]


def measure_review(subject: Subject) -> dict[str, Any]:
    """Accuracy of unreviewed answers: at every share, our threshold, and the guide's 0.7."""
    truth, probabilities = subject.tracks.labels, subject.calibrated.probabilities
    correct = probabilities.argmax(axis=1) == truth
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    kept = np.arange(1, len(order) + 1)
    name = f"ours, fitted for an accuracy of {subject.review_accuracy:g}"
    points = {name: _point(subject.calibrated.accepted, correct)}
    for t in (1.0, *GUIDE_TEMPERATURES):
        guide = track_probabilities(subject.tracks.logits[10], t)
        right = guide.argmax(axis=1) == truth
        points[f"the guide's 0.7, T = {t:g}"] = _point(entropies(guide) <= GUIDE_WARNING, right)
    return {
        "reviewed": [round(float(1 - k / len(order)), 4) for k in kept],
        "accuracy": [round(float(x), 4) for x in np.cumsum(correct[order]) / kept],
        "points": points,
    }


def apply_rules(probabilities: Probabilities, subject: Subject) -> Probabilities:
    """(K, C) probabilities after the guide's rules, applied in their order."""
    for rule in subject.guide_rules:
        chosen = fired(rule, subject.descriptors)
        shifted = shift_odds(probabilities, find_genres(rule, subject.labels), rule.log_odds)
        probabilities = np.where(chosen[:, None], shifted, probabilities)
    return probabilities


def _joined(subject: Subject, n_windows: int, method: Any) -> Probabilities:
    return np.stack([aggregate(x, 1.0, method) for x in subject.tracks.logits[n_windows]])


def _right(probabilities: Probabilities, truth: Labels) -> npt.NDArray[np.bool_]:
    return np.asarray(probabilities.argmax(axis=1) == truth)


def _log_likelihood(probabilities: Probabilities, truth: Labels) -> Scores:
    return np.asarray(np.log(np.maximum(probabilities[np.arange(len(truth)), truth], 1e-12)))


def _point(accepted: npt.NDArray[np.bool_], correct: npt.NDArray[np.bool_]) -> dict[str, Any]:
    found = mean_interval(correct[accepted]) if accepted.any() else None
    return {"reviewed": round(1 - float(accepted.mean()), 4), "accuracy": found}
