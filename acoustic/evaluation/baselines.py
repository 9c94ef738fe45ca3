"""Baselines for a model, fitted on the same train clips and measured on the same valid clips.

majority    the most frequent genre of the train clips
SVM         hand-made features, RBF kernel: usual before neural networks
small CNN   trained like the ViT; see `acoustic.evaluation.small_cnn`

Shapes: K clips, M mel bands, C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.fft import dct

from acoustic.classify.checkpoint import Checkpoint
from acoustic.data.dataset import Clip, Dataset
from acoustic.data.sources import LogMel
from acoustic.evaluation.metrics import macro_f1
from acoustic.evaluation.small_cnn import small_cnn
from acoustic.fitting.intervals import bootstrap
from acoustic.geometry import MelConfig
from acoustic.levels import STORED_TOP_DB, dequantise, renormalise

logger = logging.getLogger(__name__)

N_CEPSTRA = 20
N_BANDS = 32
RHYTHM_BINS = 512
BIN_HZ = 0.047

Predictions = npt.NDArray[np.int64]


def one_spectrogram(clips: Sequence[Clip], mel: MelConfig) -> list[Clip]:
    """Clips with the first spectrogram alone, where a window of `mel` has two."""
    if len(mel.blocks) == 1:
        return list(clips)
    n_mels = mel.blocks[0].n_mels
    return [replace(c, log_mel=renormalise(c.log_mel[None, :n_mels])[0]) for c in clips]


def majority(train: Sequence[Clip], valid: Sequence[Clip]) -> Predictions:
    """(K,) the most frequent train genre, for every valid clip."""
    counts = np.bincount([clip.label for clip in train])
    return np.full(len(valid), counts.argmax(), np.int64)


def hand_made_features(
    log_mel: LogMel, frames_per_s: float = RHYTHM_BINS * BIN_HZ
) -> npt.NDArray[np.float64]:
    """Describe a clip by 157 hand-made features.

    Mean and deviation over time of 20 cepstra, their slopes, 32 band levels, the spectral
    centroid, and the onset strength's own spectrum between 0.5 and 5 Hz as a measure of rhythm.
    """
    levels_db = dequantise(log_mel.astype(np.float64), STORED_TOP_DB)
    cepstra = dct(levels_db, axis=0, norm="ortho")[:N_CEPSTRA]
    slopes = np.diff(cepstra, axis=1)
    groups = np.array_split(levels_db, min(N_BANDS, len(levels_db)))
    bands = np.stack([group.mean(axis=0) for group in groups])
    power = 10 ** (levels_db / 10)
    centroid = (np.arange(len(power))[:, None] * power).sum(axis=0) / power.sum(axis=0)
    # Onset strength: mean rise of the levels. Its spectrum is taken over as many frames as make a
    # bin 0.05 Hz wide, and every tenth bin is kept.
    onset = np.maximum(np.diff(levels_db, axis=1), 0).mean(axis=0)
    n = max(RHYTHM_BINS, round(frames_per_s / BIN_HZ))
    rhythm = np.abs(np.fft.rfft(onset - onset.mean(), n))[10:110:10] / len(onset)
    parts = [*(stat(x, axis=-1) for x in (cepstra, slopes, bands) for stat in (np.mean, np.std))]
    return np.concatenate([*parts, [centroid.mean(), centroid.std(), onset.mean()], rhythm])


def svm(
    train: Sequence[Clip], valid: Sequence[Clip], frames_per_s: float = RHYTHM_BINS * BIN_HZ
) -> Predictions:
    """(K,) genres by a support vector machine on hand-made features."""
    model = _fit_svm(train, frames_per_s)
    return np.asarray(
        model.predict([hand_made_features(c.log_mel, frames_per_s) for c in valid]), np.int64
    )


def svm_margins(
    train: Sequence[Clip], valid: Sequence[Clip], frames_per_s: float = RHYTHM_BINS * BIN_HZ
) -> npt.NDArray[np.float64]:
    """(K,) lead of the best genre over the second best, in scores of a support vector machine."""
    scores = _fit_svm(train, frames_per_s).decision_function(
        [hand_made_features(c.log_mel, frames_per_s) for c in valid]
    )
    if scores.ndim == 1:  # two genres have a single signed score
        return np.asarray(np.abs(scores))
    ordered = np.sort(scores, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


def _fit_svm(train: Sequence[Clip], frames_per_s: float) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    model = make_pipeline(StandardScaler(), SVC(C=4.0, class_weight="balanced"))
    return model.fit(
        [hand_made_features(c.log_mel, frames_per_s) for c in train], [c.label for c in train]
    )


def measure_baselines(
    dataset: Dataset, checkpoint: Checkpoint, n_windows: int, cnn_crops: int
) -> dict[str, dict[str, Any]]:
    """Fit each baseline on all train clips, and measure it per data set.

    Args:
        dataset: train clips to fit on, valid clips to predict; without train clips the result is
            empty.
        checkpoint: checkpoint whose labels, window length and scaling are used.
        n_windows: windows per clip that the CNN evaluates.
        cnn_crops: number of crops that the CNN is trained on; 0 leaves the CNN out.

    Returns:
        Baseline → data set → accuracy and macro_f1 with intervals.
    """
    rows: dict[str, dict[str, Any]] = {}
    mel = checkpoint.manifest.mel
    train, valid = (one_spectrogram(dataset.split(each), mel) for each in ("train", "valid"))
    if not train:
        return rows
    answers = {
        "majority": majority(train, valid),
        "SVM on hand-made features": svm(train, valid, mel.sample_rate / mel.hop_length),
    }
    if cnn_crops:
        answers["small CNN"] = small_cnn(
            train,
            valid,
            n_classes=len(dataset.labels),
            n_frames=checkpoint.manifest.mel.n_frames,
            scaling=checkpoint.scaling,
            n_crops=cnn_crops,
            n_windows=n_windows,
        )
    for name, predicted in answers.items():
        rows[name] = _row(predicted, valid)
        logger.info("baseline %s measured", name)
    return rows


def _row(predicted: Predictions, valid: Sequence[Clip]) -> dict[str, Any]:
    truth = np.array([clip.label for clip in valid], np.int64)
    sources = np.array([clip.source for clip in valid])
    return {
        source: {
            "accuracy": bootstrap(
                lambda p, y: float((p == y).mean()), predicted[chosen], truth[chosen]
            ).to_dict(),
            "macro_f1": bootstrap(macro_f1, predicted[chosen], truth[chosen]).to_dict(),
        }
        for source in sorted(set(sources))
        for chosen in [sources == source]
    }
