"""Baselines: the majority, hand-made features by their definition, and support vectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.fft import dct

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.checkpoint import load_checkpoint
from acoustic.classify.normalise import Scaling
from acoustic.classify.trunk_windows import BOTH
from acoustic.data.dataset import Dataset
from acoustic.evaluation.baselines import (
    N_CEPSTRA,
    hand_made_features,
    majority,
    measure_baselines,
    one_spectrogram,
    svm,
    svm_margins,
)
from acoustic.evaluation.small_cnn import small_cnn
from acoustic.geometry import MelConfig
from acoustic.labels import GENRES
from tests.support.clips import BEATS, GENRES_MADE, N_FRAMES, NEITHER, NOTES, clip
from tests.support.properties import quick


@quick
@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=12), n=st.integers(0, 3))
def test_the_majority_is_the_most_frequent_train_genre(labels: list[int], n: int) -> None:
    small = clip(BEATS, 0, n_frames=2)
    train = [replace(small, label=label) for label in labels]
    found = majority(train, [small] * n)
    assert len(found) == n
    assert all(labels.count(answer) == max(map(labels.count, labels)) for answer in found)


def test_there_are_157_features_and_the_first_are_mean_cepstra() -> None:
    log_mel = clip(BEATS, 1).log_mel
    found = hand_made_features(log_mel)
    assert found.shape == (157,)
    levels_db = log_mel * (80 / 255) - 80
    np.testing.assert_allclose(
        found[:N_CEPSTRA], dct(levels_db, axis=0, norm="ortho")[:N_CEPSTRA].mean(axis=1)
    )


def test_the_centroid_of_one_band_is_that_band() -> None:
    log_mel = np.zeros((128, 100), np.uint8)
    log_mel[40] = 255
    centroid, deviation, onset = hand_made_features(log_mel)[144:147]
    assert centroid == pytest.approx(40, abs=0.01)
    assert (deviation, onset) == (pytest.approx(0, abs=1e-9), 0.0)


@pytest.mark.parametrize("period", [12, 16, 24])
def test_the_rhythm_is_strongest_at_the_rate_of_the_beat(period: int) -> None:
    """At 24.1 frames a second, bins of 0.05 Hz and one bin of ten from the tenth."""
    log_mel = np.zeros((128, 480), np.uint8)
    log_mel[:, ::period] = 255
    rhythm = hand_made_features(log_mel)[147:]
    beat_bin = 512 / period
    assert abs(10 + 10 * int(rhythm.argmax()) - beat_bin) <= 6


def test_margins_are_positive_and_larger_where_the_clip_is_clear() -> None:
    train = [clip(label, seed) for label in GENRES_MADE for seed in range(6)]
    clear = clip(BEATS, 60)
    between = replace(clear, log_mel=((clear.log_mel.astype(int) + clip(NEITHER, 61).log_mel) // 2)
                      .astype(np.uint8))  # fmt: skip
    large, small = svm_margins(train, [clear, between])
    assert large > small >= 0
    two = [each for each in train if each.label != NOTES]
    assert (svm_margins(two, [clear, between]) >= 0).all()
    assert svm(two, [clear]).tolist() == [BEATS]


def test_baselines_hear_the_first_of_two_spectrograms() -> None:
    rng = np.random.default_rng(0)
    both = replace(clip(BEATS, 1), log_mel=rng.integers(0, 200, (160, 300)).astype(np.uint8))
    (found,) = one_spectrogram([both], BOTH)
    first = both.log_mel[:64]
    np.testing.assert_array_equal(found.log_mel, first + (255 - first.max()))
    assert one_spectrogram([both], MelConfig()) == [both]


def test_every_baseline_is_measured_per_data_set(tiny_checkpoint: Path) -> None:
    checkpoint = load_checkpoint(CheckpointFolder.open(tiny_checkpoint))
    valid = [
        replace(clip(label, 50 + i, "valid"), source=source)
        for i, label in enumerate((BEATS, NOTES))
        for source in ("a", "b")
    ]
    train = [clip(label, seed) for label in (BEATS, NOTES) for seed in range(4)]
    made = Dataset(labels=GENRES, clips=[*train, *valid], skipped=[])
    rows = measure_baselines(made, checkpoint, 2, cnn_crops=0)
    assert set(rows) == {"majority", "SVM on hand-made features"}
    assert set(rows["majority"]) == {"a", "b"}
    assert rows["majority"]["a"]["accuracy"]["value"] == 0.5
    assert rows["SVM on hand-made features"]["b"]["accuracy"]["value"] == 1.0
    nothing = replace(made, clips=valid)
    assert measure_baselines(nothing, checkpoint, 2, cnn_crops=0) == {}


def labelled(split: str, first_seed: int, n: int) -> list:
    return [clip(label, first_seed + i, split) for label in GENRES_MADE for i in range(n)]


def test_baselines_learn_what_can_be_learned() -> None:
    train, valid = labelled("train", 0, 8), labelled("valid", 50, 2)
    truth = [BEATS] * 2 + [NOTES] * 2 + [NEITHER] * 2
    assert majority([*train, clip(NOTES, 99)], valid).tolist() == [NOTES] * 6
    assert svm(train, valid).tolist() == truth
    cnn = small_cnn(
        train, valid, n_classes=16, n_frames=N_FRAMES, scaling=Scaling(), n_crops=384, n_windows=2
    )
    assert (cnn == truth).mean() > 0.6
    assert np.isfinite(hand_made_features(np.zeros((128, 200), np.uint8))).all()
