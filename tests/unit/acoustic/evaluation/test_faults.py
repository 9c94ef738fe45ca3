"""Faults injected into synthetic music raise their review reasons."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from acoustic.data.outliers import Outlier
from acoustic.evaluation.faults import list_faults, measure_faults
from acoustic.pipeline import Pipeline
from tests.support.clips import clip, write_song
from tests.support.sounds import noise, sweep, tone

RATE = 22_050
SOUND_REASONS = ("NOISY", "CLIPPED", "NARROW_BAND", "MOSTLY_SILENT", "TOO_SHORT")


def song(seed: int) -> np.ndarray:
    """20 s of pulsed chirps up to the highest band, with almost no noise."""
    pulses = np.arange(20 * RATE) % (RATE // 2) < RATE // 5
    chirps = np.concatenate([sweep(1.0, RATE)] * 20)[: pulses.size]
    return np.asarray(chirps * pulses + noise(20, RATE, 1e-4, seed), np.float32)


@pytest.mark.parametrize("code", SOUND_REASONS)
def test_a_fault_of_the_sound_raises_its_reason(tiny_checkpoint: Path, code: str) -> None:
    pipeline = Pipeline.from_folder(tiny_checkpoint)
    music = [(seed % 2, song(seed)) for seed in range(4)]
    (fault,) = [each for each in list_faults(music, [], RATE) if each.code == code]
    from acoustic.evaluation.faults import _reasons

    for case in range(3):
        samples = fault.make(np.random.default_rng(case))
        assert code in _reasons(pipeline, samples, RATE, "balanced")
    assert code not in _reasons(pipeline, music[0][1], RATE, "balanced")


def test_every_fault_and_every_reason_of_clean_tracks_is_counted(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    clips = []
    for seed in range(2):
        path = tmp_path / f"{seed}.wav"
        write_song(path, seed)
        clips.append(replace(clip(1 + 5 * seed, seed, "valid"), path=path))
    speech = Outlier(waveform=tone(300, 6), log_mel=clips[0].log_mel, kind="speech")
    report = measure_faults(Pipeline.from_folder(tiny_checkpoint), clips, [speech], n_cases=2)
    assert report["n_clean"] == 2
    causes = {(row["cause"], row["effort"]) for row in report["faults"]}
    assert ("speech", "thorough") in causes
    assert len(causes) == 16
    short = [row for row in report["faults"] if row["code"] == "TOO_SHORT"]
    assert all(row["raised"]["value"] == 1.0 for row in short)
