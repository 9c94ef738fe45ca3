"""All measures of calibrated tracks, with track-level intervals, as plain numbers.

Shapes: K tracks, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from acoustic.evaluation.metrics import (
    ECE_BINS,
    Flags,
    Labels,
    Scores,
    accuracy,
    accuracy_at_coverage,
    aurc,
    auroc,
    brier,
    confusion,
    ece_null_p95,
    entropies,
    error_auroc,
    macro_f1,
    risk_coverage,
)
from acoustic.fitting.calibrate import Calibrated
from acoustic.fitting.intervals import Interval, bootstrap
from acoustic.fitting.scores import adaptive_ece, negative_log_likelihood
from acoustic.fitting.tracks import Tracks
from acoustic.labels import LabelSet
from acoustic.postprocess.aggregation import Aggregation, aggregate
from acoustic.postprocess.calibration import Calibration, Logits, Probabilities
from acoustic.postprocess.families import family_probabilities
from acoustic.preprocess.segments import WINDOWS_BY_EFFORT, split_rounds

AGGREGATIONS: tuple[Aggregation, ...] = ("mean_probability", "mean_logit", "vote")
AUTO_MARGINS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Leads of the best genre at which effort auto stops: 0 after one round, 1 after all rounds."""

IntervalOf = Callable[..., dict[str, float] | None]

KEPT = 0.7
"""Share of the tracks that is not reviewed when the least confident are."""


def measure(
    calibrated: Calibrated,
    labels: Labels,
    names: LabelSet,
    collections: npt.NDArray[np.str_] | None = None,
) -> dict[str, Any]:
    """All measures of calibrated tracks, with 95 % intervals.

    Args:
        calibrated: calibrated answers of K tracks.
        labels: (K,) true class indices.
        names: label set of the C genres.
        collections: (K,) names of collections, which are resampled whole for the intervals; None
            resamples tracks.
    """
    probabilities = calibrated.probabilities
    interval = partial(_interval, clusters=collections)
    return {
        "n_tracks": len(labels),
        "n_collections": None if collections is None else len(np.unique(collections)),
        "accuracy": interval(accuracy, probabilities, labels),
        "macro_f1": interval(lambda p, y: macro_f1(p.argmax(axis=1), y), probabilities, labels),
        "family_accuracy": interval(
            lambda p, y: float((p == y).mean()),
            _families(probabilities.argmax(axis=1), names),
            _families(labels, names),
        ),
        "per_family": _per_family(probabilities.argmax(axis=1), labels, names),
        "own_genres": own_genres(probabilities, labels),
        "per_genre": _per_genre(probabilities.argmax(axis=1), labels, names, collections),
        "confusion": confusion(probabilities.argmax(axis=1), labels, len(names)).tolist(),
        "nll": interval(negative_log_likelihood, probabilities, labels),
        "brier": interval(brier, probabilities, labels),
        "calibration": measure_calibration(probabilities, labels),
        "selective": _selective(calibrated, labels, interval),
        "families": _family_answers(calibrated, labels, names, interval),
        "prediction_sets": _prediction_sets(calibrated, labels, interval),
    }


def own_genres(probabilities: Probabilities, labels: Labels) -> dict[str, Any]:
    """Accuracy when only the genres that occur in the data can be answered."""
    present = np.unique(labels)
    restricted = present[probabilities[:, present].argmax(axis=1)]
    value = _interval(lambda p, y: float((p == y).mean()), restricted, labels)
    return {"n_genres": len(present), "accuracy": value}


def measure_calibration(probabilities: Probabilities, labels: Labels) -> dict[str, Any]:
    """Adaptive ECE, its 95th percentile for a calibrated model, and the reliability diagram."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bins = np.array_split(np.argsort(confidence, kind="stable"), ECE_BINS)
    return {
        "adaptive_ece": round(adaptive_ece(probabilities, labels, ECE_BINS), 4),
        "null_p95": round(ece_null_p95(probabilities), 4),
        "bins": [
            {
                "confidence": round(float(confidence[each].mean()), 4),
                "accuracy": round(float(correct[each].mean()), 4),
                "n": len(each),
            }
            for each in bins
            if len(each)
        ],
    }


def measure_windows(tracks: Tracks, calibration: Calibration) -> list[dict[str, Any]]:
    """Accuracy by number of windows and aggregation method."""
    rows = []
    for n, logits in tracks.logits.items():
        for method in AGGREGATIONS:
            probabilities = np.stack(
                [aggregate(each, calibration.at(n).temperature, method) for each in logits]
            )
            value = _interval(accuracy, probabilities, tracks.labels)
            rows.append({"windows": n, "aggregation": method, "accuracy": value})
    return rows


def measure_auto(tracks: Tracks, calibration: Calibration) -> list[dict[str, Any]]:
    """Mean number of windows and accuracy of effort auto, by the lead at which it stops.

    Args:
        tracks: tracks evaluated with the windows of effort thorough.
        calibration: fitted on these tracks or on others: only temperatures and floor are used.
    """
    logits = tracks.logits[max(WINDOWS_BY_EFFORT.values())]
    evaluated = [_by_round(each, calibration) for each in logits]
    rows = []
    for margin in AUTO_MARGINS:
        # The first round whose lead reaches the margin, else the last round.
        stops = [next((r for r in each if r[1] >= margin), each[-1]) for each in evaluated]
        correct = np.array([r[2] for r in stops]) == tracks.labels
        windows = float(np.mean([r[0] for r in stops]))
        value = _interval(_mean, correct)
        rows.append({"margin": margin, "windows": round(windows, 2), "accuracy": value})
    return rows


def _by_round(logits: Logits, calibration: Calibration) -> list[tuple[int, float, int]]:
    """(windows evaluated, lead of the best genre, that genre) after each round of auto."""
    evaluated: list[int] = []
    found = []
    for each in split_rounds(len(logits)):
        evaluated = sorted([*evaluated, *each])
        temperature = calibration.at(len(evaluated)).temperature
        p = aggregate(logits[evaluated], temperature, "mean_probability", calibration.floor)
        second, best = np.sort(p)[-2:]
        found.append((len(evaluated), float(best - second), int(p.argmax())))
    return found


def measure_outliers(
    music: Probabilities,
    outliers: Probabilities,
    kinds: list[str],
    log_odds: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None = None,
) -> list[dict[str, Any]]:
    """AUROC of several scores for detecting non-music, per kind of sound.

    Args:
        music: (K, C) probabilities of music that the model was not trained on.
        outliers: (L, C) probabilities of non-music sounds.
        kinds: kinds of the L sounds.
        log_odds: (K,) and (L,) log-odds of music over other sounds, if the model has them.
    """
    scores = {
        "entropy": (entropies(music), entropies(outliers)),
        "1 − confidence": (1 - music.max(axis=1), 1 - outliers.max(axis=1)),
    }
    if log_odds is not None:
        scores["log-odds of music"] = (-log_odds[0].astype(float), -log_odds[1].astype(float))
    rows = []
    for kind in ["all", *sorted(set(kinds))]:
        chosen = np.array([kind in ("all", each) for each in kinds])
        for name, (of_music, of_outliers) in scores.items():
            value = _two_sample_interval(of_outliers[chosen], of_music)
            rows.append(
                {"kind": kind, "n": int(chosen.sum()), "score": name, "auroc": value.to_dict()}
            )
    return rows


def _selective(calibrated: Calibrated, labels: Labels, interval: IntervalOf) -> dict[str, Any]:
    confidence = calibrated.probabilities.max(axis=1)
    correct = calibrated.probabilities.argmax(axis=1) == labels
    accepted = calibrated.accepted
    return {
        "error_auroc": interval(error_auroc, confidence, correct),
        "aurc": interval(aurc, confidence, correct),
        "accuracy_at_70": interval(
            lambda c, flags: accuracy_at_coverage(c, flags, KEPT), confidence, correct
        ),
        "accepted": round(float(accepted.mean()), 4),
        "accepted_accuracy": interval(_mean_where, correct, accepted) if accepted.any() else None,
        "risk_coverage": [round(float(r), 4) for r in risk_coverage(confidence, correct)],
    }


def _family_answers(
    calibrated: Calibrated, labels: Labels, names: LabelSet, interval: IntervalOf
) -> dict[str, Any]:
    """Families that are answered where the genre alone is not sure: how many, how often right."""
    probabilities, family = family_probabilities(calibrated.probabilities, names)
    sizes = np.bincount(family)
    shown = ~calibrated.accepted & calibrated.families & (sizes[probabilities.argmax(1)] > 1)
    right = probabilities.argmax(axis=1) == family[labels]
    return {
        "shown": round(float(shown.mean()), 4),
        "accuracy": interval(_mean_where, right, shown) if shown.any() else None,
    }


def _prediction_sets(
    calibrated: Calibrated, labels: Labels, interval: IntervalOf
) -> dict[str, Any]:
    covered = calibrated.sets[np.arange(len(labels)), labels]
    sizes = calibrated.sets.sum(axis=1).astype(np.float64)
    return {"coverage": interval(_mean, covered), "size": interval(_mean, sizes)}


def _per_genre(
    predicted: Labels,
    labels: Labels,
    names: LabelSet,
    collections: npt.NDArray[np.str_] | None,
) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for index, name in enumerate(names.names):
        present, called = labels == index, predicted == index
        if not present.any():
            continue
        hits = int((present & called).sum())
        rows[name] = {
            "n": int(present.sum()),
            "n_collections": None if collections is None else len(np.unique(collections[present])),
            "recall": _interval(_mean, called[present]),
            "precision": round(hits / int(called.sum()), 4) if called.any() else None,
        }
    return rows


def _per_family(predicted: Labels, labels: Labels, names: LabelSet) -> dict[str, dict[str, Any]]:
    """Recall of each family, with its genres kept apart and with them merged."""
    called, true = _families(predicted, names), _families(labels, names)
    rows: dict[str, dict[str, Any]] = {}
    for first in np.unique(true):
        family = names.labels[first].parent
        members = [label.name for label in names.labels if label.parent == family]
        if family is None or len(members) < 2:
            continue
        present = true == first
        rows[family] = {
            "genres": members,
            "n": int(present.sum()),
            "recall": _interval(_mean, (predicted == labels)[present]),
            "merged_recall": _interval(_mean, (called == true)[present]),
        }
    return rows


def _families(indices: Labels, names: LabelSet) -> Labels:
    """(K,) genres, each replaced by the first genre of its family."""
    parents = [label.parent or label.name for label in names.labels]
    return np.array([parents.index(parents[i]) for i in indices], np.int64)


def _mean(values: Flags | Scores) -> float:
    return float(values.mean())


def _mean_where(values: Flags, chosen: Flags) -> float:
    return float(values[chosen].mean()) if chosen.any() else float("nan")


def _interval(
    statistic: Any, *arrays: Any, clusters: npt.NDArray[np.str_] | None = None
) -> dict[str, float] | None:
    """Value with interval; None if undefined, e.g. the AUROC of errors where there are none."""
    found = bootstrap(statistic, *arrays, clusters=clusters)
    return found.to_dict() if np.isfinite(found.value) else None


def _two_sample_interval(positive: Scores, negative: Scores) -> Interval:
    """AUROC with its bootstrap interval, both samples resampled."""
    rng = np.random.default_rng(0)
    drawn = [
        auroc(rng.choice(positive, len(positive)), rng.choice(negative, len(negative)))
        for _ in range(1000)
    ]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Interval(auroc(positive, negative), float(low), float(high))
