"""Fit the temperatures of a checkpoint on valid clips, measure it, and write both down.

The temperatures are fitted on the pooled valid clips of all sources, whose artists the model
never saw; the accuracies are given per source, with a 95 % bootstrap interval over tracks.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from acoustic.classify.checkpoint import load_checkpoint
from acoustic.classify.config import EngineConfig
from acoustic.classify.engine import Engine
from acoustic.labels import LabelSet
from acoustic.manifest import CARD_FILE
from acoustic.postprocess.calibration import (
    Calibration,
    Logits,
    Probabilities,
    adaptive_ece,
    fit_temperature,
    negative_log_likelihood,
    save_calibration,
    track_probabilities,
)
from acoustic.training.card import SourceResult, write_card
from acoustic.training.dataset import Clip
from acoustic.training.probe import linear_probe
from acoustic.training.validate import clip_logits

logger = logging.getLogger(__name__)

WINDOW_COUNTS = (1, 3, 10)
N_BOOTSTRAP = 2000


@dataclass(frozen=True, slots=True)
class _Validation:
    """Logits of the valid clips per number of windows, and their labels."""

    logits: dict[int, list[Logits]]
    labels: npt.NDArray[np.int64]
    sources: npt.NDArray[np.str_]


def calibrate(folder: Path, clips: list[Clip]) -> None:
    """Write calibration.json and the model card of a checkpoint.

    Args:
        folder: checkpoint with weights and training.json.
        clips: of both splits; train clips are used for the baseline only.
    """
    checkpoint = load_checkpoint(folder)
    mel = checkpoint.manifest.mel
    valid = [clip for clip in clips if clip.split == "valid"]
    engine = Engine(
        checkpoint.model,
        checkpoint.scaling,
        (mel.n_mels, mel.n_frames),
        EngineConfig(accelerator="cpu", precision="fp32"),
    )
    validation = _Validation(
        logits={n: clip_logits(engine.logits, valid, mel.n_frames, n) for n in WINDOW_COUNTS},
        labels=np.array([clip.label for clip in valid]),
        sources=np.array([clip.source for clip in valid]),
    )
    calibration = _fit(validation, checkpoint.manifest.digest)
    save_calibration(folder, calibration)
    results = [
        _measure(source, clips, validation, calibration, checkpoint.manifest.labels)
        for source in sorted(set(validation.sources))
    ]
    training: dict[str, Any] = json.loads((folder / "training.json").read_text())
    card = write_card(checkpoint.manifest, training, calibration, results)
    (folder / CARD_FILE).write_text(card, encoding="utf-8")
    for result in results:
        logger.info("%s", result)


def _fit(validation: _Validation, digest: str) -> Calibration:
    temperatures, nll, ece = {}, {}, {}
    for n, logits in validation.logits.items():
        temperatures[n] = round(fit_temperature(logits, validation.labels), 4)
        probabilities = track_probabilities(logits, temperatures[n])
        nll[n] = round(negative_log_likelihood(probabilities, validation.labels), 4)
        ece[n] = round(adaptive_ece(probabilities, validation.labels), 4)
    return Calibration(
        temperatures=temperatures,
        checkpoint_digest=digest,
        dataset="valid clips of " + ", ".join(sorted(set(validation.sources))),
        n_tracks=len(validation.labels),
        date=datetime.now(UTC).date().isoformat(),
        nll=nll,
        ece=ece,
    )


def _measure(
    source: str,
    clips: list[Clip],
    validation: _Validation,
    calibration: Calibration,
    labels: LabelSet,
) -> SourceResult:
    chosen = np.flatnonzero(validation.sources == source)
    truth = validation.labels[chosen]
    probabilities = {
        n: track_probabilities([logits[i] for i in chosen], calibration.temperature(n))
        for n, logits in validation.logits.items()
    }
    train = [clip for clip in clips if clip.source == source and clip.split == "train"]
    valid = [clip for clip in clips if clip.source == source and clip.split == "valid"]
    probe = linear_probe(train, valid, len(labels)) == truth
    best = probabilities[max(WINDOW_COUNTS)]
    return SourceResult(
        source=source,
        n_tracks=len(truth),
        accuracy={n: bootstrap(p.argmax(axis=1) == truth) for n, p in probabilities.items()},
        restricted_accuracy=bootstrap(_restricted(best, truth) == truth),
        probe_accuracy=bootstrap(probe),
        recall={
            labels.names[k]: (float((best.argmax(axis=1) == k)[truth == k].mean()), int(n))
            for k, n in zip(*np.unique(truth, return_counts=True), strict=True)
        },
    )


def _restricted(
    probabilities: Probabilities, truth: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Best genre among those that the source has at all: comparable with models of only those."""
    present = np.unique(truth)
    return np.asarray(present[probabilities[:, present].argmax(axis=1)])


def bootstrap(correct: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """Mean with its 95 % percentile interval over resampled tracks."""
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(correct), (N_BOOTSTRAP, len(correct)))
    low, high = np.quantile(correct[draws].mean(axis=1), (0.025, 0.975))
    return float(correct.mean()), float(low), float(high)
