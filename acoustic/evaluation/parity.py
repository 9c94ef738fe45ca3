"""Compare the stored spectrograms of the training data with those of the serving front end.

Some recordings exist both as audio and as a stored spectrogram. If the two differ, a model is
trained on another input than it gets in serving.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from acoustic.data.dataset import Clip
from acoustic.data.sources import LogMel
from acoustic.errors import InputError
from acoustic.fitting.intervals import bootstrap
from acoustic.levels import db_per_level, renormalise
from acoustic.pipeline import Pipeline
from acoustic.postprocess.calibration import Logits, Probabilities, softmax

logger = logging.getLogger(__name__)

MAX_SHIFT = 2
Triple = tuple[float, bool, float]


def measure_parity(pipeline: Pipeline, clips: Sequence[Clip]) -> dict[str, Any] | None:
    """Compare features and answers of recordings available as both audio and spectrogram.

    Args:
        pipeline: pipeline with the checkpoint, as in serving; ten windows are evaluated per track.
        clips: clips of all data sets, joined by their track name.

    Returns:
        n_tracks, the number that the front end rejected, the median and the largest over tracks of
        the median feature difference in dB, the share of tracks with the same best genre, and the
        median probability difference; None if no recording is available as both.
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
    starts = [round(s.start_s * mel.sample_rate / mel.hop_length) for s in features.facts.segments]
    # Both are (S, M, T) uint8; a step is db_per_level.
    windows = _aligned(spectrogram.log_mel, starts, features.log_mel.astype(np.uint8))
    difference = np.abs(windows.astype(np.float64) - features.log_mel)
    difference *= db_per_level(mel.top_db)
    served, trained = (
        _probabilities(pipeline.classifier.engine.logits(x)) for x in (features.log_mel, windows)
    )
    return (
        float(np.median(difference)),
        bool(served.argmax() == trained.argmax()),
        float(np.abs(served - trained).max()),
    )


def _aligned(log_mel: LogMel, starts: list[int], wanted: LogMel) -> LogMel:
    """Windows of a stored spectrogram, shifted by up to MAX_SHIFT frames to where they fit best.

    The origin of the stored time axis is known only to within a frame or two.
    """
    last, n_frames = log_mel.shape[1] - wanted.shape[2], wanted.shape[2]

    def cut(shift: int) -> LogMel:
        firsts = [min(max(start + shift, 0), last) for start in starts]
        windows = np.stack([log_mel[:, first : first + n_frames] for first in firsts])
        return renormalise(windows)

    def misfit(windows: LogMel) -> float:
        return float(np.median(np.abs(windows.astype(np.float64) - wanted)))

    return min((cut(shift) for shift in range(-MAX_SHIFT, MAX_SHIFT + 1)), key=misfit)


def _probabilities(logits: Logits) -> Probabilities:
    return np.asarray(softmax(logits).mean(axis=0))
