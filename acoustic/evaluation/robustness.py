"""Accuracy under every corruption, measured with the serving pipeline."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from acoustic.data.dataset import Clip
from acoustic.data.outliers import Outlier
from acoustic.data.sources import read_waveform
from acoustic.errors import InputError
from acoustic.evaluation.corruptions import Corruption, Samples, corruption_grid
from acoustic.fitting.intervals import bootstrap
from acoustic.pipeline import Pipeline

logger = logging.getLogger(__name__)

LOUD_NOISE_DB = 5
"""Highest SNR that counts as loud noise in the summary, dB."""


def measure_robustness(
    pipeline: Pipeline, clips: Sequence[Clip], outliers: Sequence[Outlier], n_threads: int = 1
) -> dict[str, Any]:
    """Accuracy of clips with audio, clean and corrupted.

    Args:
        pipeline: pipeline with the checkpoint, as in serving; three windows are evaluated per
            track.
        clips: clips held out from training; those without audio are left out.
        outliers: held-out non-music recordings, used as noise.
        n_threads: tracks at the same time.

    Returns:
        n_tracks, one row per corruption (kind, strength, accuracy with interval, refused: number
        of files that the front end rejected, which count as wrong), and summaries.
    """
    audible = [clip for clip in clips if clip.path is not None]
    kinds = sorted({outlier.kind for outlier in outliers})
    recordings = {kind: [o.waveform for o in outliers if o.kind == kind] for kind in kinds}
    rate = pipeline.preprocessor.config.mel.sample_rate
    # Fewer than five recordings are too few to stand for a kind of noise.
    grid = list(corruption_grid({k: v for k, v in recordings.items() if len(v) >= 5}))

    def answers(index: int) -> list[str]:
        path = audible[index].path
        assert path is not None
        waveform = read_waveform(path, rate)  # not before: a library may be large
        return [_answer(pipeline, corruption, waveform, rate, index) for corruption in grid]

    of_tracks = []
    with ThreadPoolExecutor(n_threads) as pool:
        for found in pool.map(answers, range(len(audible))):
            of_tracks.append(found)
            if len(of_tracks) % 20 == 0:
                logger.info("corrupted %d of %d tracks", len(of_tracks), len(audible))
    labels = [pipeline.postprocessor.labels.names[clip.label] for clip in audible]
    rows = [
        _row(corruption, [found[i] for found in of_tracks], labels)
        for i, corruption in enumerate(grid)
    ]
    return {"n_tracks": len(audible), "rows": rows, **_summaries(rows)}


def _row(corruption: Corruption, answers: list[str], labels: list[str]) -> dict[str, Any]:
    correct = np.array([a == label for a, label in zip(answers, labels, strict=True)])
    return {
        "kind": corruption.kind,
        "strength": corruption.strength,
        "accuracy": bootstrap(lambda flags: float(flags.mean()), correct).to_dict(),
        "refused": answers.count(""),
    }


def _answer(
    pipeline: Pipeline, corruption: Corruption, waveform: Samples, rate: int, index: int
) -> str:
    """Answered genre, or "" if the front end rejects the corrupted audio."""
    rng = np.random.default_rng((index, len(corruption.kind), len(corruption.strength)))
    try:
        return pipeline.classify(corruption.apply(waveform, rate, rng)).predictions[0].genre
    except InputError:
        return ""


def _summaries(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Mean accuracy in loud noise, and the ratio of noisy to clean accuracy.

    The ratio takes all kinds of noise at an SNR of 0 to 20 dB.
    """
    clean = rows[0]["accuracy"]["value"]
    noisy = [
        (float(row["strength"].removesuffix(" dB")), row["accuracy"]["value"])
        for row in rows
        if row["kind"].endswith(" noise")
    ]
    loud = [value for snr_db, value in noisy if snr_db <= LOUD_NOISE_DB]
    usual = [value for snr_db, value in noisy if 0 <= snr_db <= 20]
    return {
        "loud_noise_accuracy": round(float(np.mean(loud)), 4),
        "relative_robustness": round(float(np.mean(usual)) / clean, 4) if clean else 0.0,
    }
