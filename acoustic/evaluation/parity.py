"""The same recording through the training data and through the serving front end.

Some recordings exist both as audio and as a stored spectrogram. Where the two paths disagree, a
model is trained on something else than it will hear.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from acoustic.errors import InputError
from acoustic.evaluation.metrics import bootstrap
from acoustic.pipeline import Pipeline
from acoustic.postprocess.calibration import Logits, Probabilities
from acoustic.training.dataset import Clip
from acoustic.training.sources import LogMel

logger = logging.getLogger(__name__)

DB_PER_STEP = 80 / 255
MAX_SHIFT = 2
Triple = tuple[float, bool, float]


def measure_parity(pipeline: Pipeline, clips: Sequence[Clip]) -> dict[str, Any] | None:
    """Compare features and answers of recordings that are there twice.

    Args:
        pipeline: that serves; ten windows are heard.
        clips: of all data sets; joined by their track name.

    Returns:
        n_tracks, how many the front end refused, the median over tracks of the median feature
        difference in dB, and the share of tracks with the same best genre; None where no recording
        is there twice.
    """
    stored = {clip.track: clip for clip in clips if clip.track and clip.path is None}
    pairs = [(stored[c.track], c) for c in clips if c.path is not None and c.track in stored]
    if not pairs:
        return None
    compared = [_compare(pipeline, spectrogram, audio) for spectrogram, audio in pairs]
    rows = [row for row in compared if row is not None]
    if not rows:
        return None
    same = np.array([same for _, same, _ in rows])
    return {
        "n_tracks": len(rows),
        "refused": len(compared) - len(rows),
        "median_difference_db": round(float(np.median([each for each, _, _ in rows])), 3),
        "worst_difference_db": round(max(each for each, _, _ in rows), 3),
        "same_top_1": bootstrap(lambda flags: float(flags.mean()), same).to_dict(),
        "median_probability_difference": round(float(np.median([p for _, _, p in rows])), 4),
    }


def _compare(pipeline: Pipeline, spectrogram: Clip, audio: Clip) -> Triple | None:
    """Median difference in dB, whether the best genre agrees, largest probability difference."""
    assert audio.path is not None
    try:
        features = pipeline.preprocessor.process(audio.path.read_bytes(), "thorough")
    except InputError as error:
        logger.warning("refused file=%s code=%s", audio.path.name, error.code)
        return None
    mel = pipeline.preprocessor.config.mel
    starts = [round(s.start_s * mel.sample_rate / mel.hop_length) for s in features.segments]
    windows = _aligned(spectrogram.log_mel, starts, features.log_mel)
    difference = np.abs(windows.astype(np.float64) - features.log_mel) * DB_PER_STEP
    served, trained = (
        _probabilities(pipeline.classifier.engine.logits(x)) for x in (features.log_mel, windows)
    )
    return (
        float(np.median(difference)),
        bool(served.argmax() == trained.argmax()),
        float(np.abs(served - trained).max()),
    )


def _aligned(log_mel: LogMel, starts: list[int], wanted: LogMel) -> LogMel:
    """Windows of a stored spectrogram, moved by up to MAX_SHIFT frames to where they fit best.

    The origin of the stored time axis is only known to a frame or two.
    """
    last, n_frames = log_mel.shape[1] - wanted.shape[2], wanted.shape[2]

    def cut(shift: int) -> LogMel:
        firsts = [min(max(start + shift, 0), last) for start in starts]
        windows = np.stack([log_mel[:, first : first + n_frames] for first in firsts])
        return np.asarray(windows + (255 - windows.max(axis=(1, 2), keepdims=True)))

    def misfit(windows: LogMel) -> float:
        return float(np.median(np.abs(windows.astype(np.float64) - wanted)))

    return min((cut(shift) for shift in range(-MAX_SHIFT, MAX_SHIFT + 1)), key=misfit)


def _probabilities(logits: Logits) -> Probabilities:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray((exponentials / exponentials.sum(axis=1, keepdims=True)).mean(axis=0))
