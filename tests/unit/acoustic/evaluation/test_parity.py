"""Parity of stored and served spectrograms: the shift is found, a difference is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from acoustic.data.dataset import Clip
from acoustic.data.sources import read_log_mel
from acoustic.evaluation.parity import MAX_SHIFT, _aligned, measure_parity
from acoustic.levels import renormalise
from acoustic.pipeline import Pipeline
from acoustic.preprocess.mel import MelSpectrogram
from tests.support.clips import BEATS, clip, write_song


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint: Path) -> Pipeline:
    return Pipeline.from_folder(tiny_checkpoint)


def pair(pipeline: Pipeline, path: Path, seed: int) -> tuple[Clip, Clip]:
    """A recording as a stored spectrogram and as audio."""
    write_song(path, seed, duration_s=30.0)
    mel = pipeline.preprocessor.config.mel
    log_mel = read_log_mel(path, MelSpectrogram(mel), mel)
    made = replace(clip(BEATS, seed), log_mel=log_mel, track=path.name)
    return made, replace(made, path=path, source="audio")


@pytest.mark.parametrize("shift", range(-MAX_SHIFT, MAX_SHIFT + 1))
def test_windows_are_shifted_to_where_they_fit(shift: int, rng: np.random.Generator) -> None:
    log_mel = rng.integers(0, 256, (8, 60)).astype(np.uint8)
    starts = [5, 30]
    wanted = renormalise(np.stack([log_mel[:, s + shift : s + shift + 20] for s in starts]))
    np.testing.assert_array_equal(_aligned(log_mel, starts, wanted), wanted)


def test_windows_past_the_end_of_a_stored_clip_end_with_it(rng: np.random.Generator) -> None:
    log_mel = rng.integers(0, 256, (8, 25)).astype(np.uint8)
    found = _aligned(log_mel, [0, 24], np.zeros((2, 8, 20), np.uint8))
    np.testing.assert_array_equal(found[1], renormalise(log_mel[None, :, 5:])[0])


def test_the_same_sound_differs_by_a_fraction_of_a_decibel(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    stored, audio = pair(pipeline, tmp_path / "a.wav", 1)
    louder = replace(stored, log_mel=(stored.log_mel // 2).astype(np.uint8))
    found = measure_parity(pipeline, [stored, audio])
    changed = measure_parity(pipeline, [louder, audio])
    assert found is not None
    assert changed is not None
    assert (found["n_tracks"], found["refused"], found["same_top_1"]["value"]) == (1, 0, 1.0)
    assert found["worst_difference_db"] < 1.0 < changed["worst_difference_db"]


def test_a_file_that_the_front_end_rejects_is_counted(pipeline: Pipeline, tmp_path: Path) -> None:
    clips = [*pair(pipeline, tmp_path / "a.wav", 1), *pair(pipeline, tmp_path / "b.wav", 2)]
    (tmp_path / "b.wav").write_bytes(b"broken")
    found = measure_parity(pipeline, clips)
    assert found is not None
    assert (found["n_tracks"], found["refused"]) == (1, 1)


def test_without_a_recording_in_both_forms_there_is_nothing_to_compare(pipeline: Pipeline) -> None:
    assert measure_parity(pipeline, []) is None
    assert measure_parity(pipeline, [replace(clip(BEATS, 1), track="a")]) is None
