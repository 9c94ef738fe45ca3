"""Logits of labelled clips: one entry per clip, the same as the engine's own answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.checkpoint import load_checkpoint
from acoustic.classify.engine import Engine
from acoustic.data.groups import group_hash
from acoustic.data.windows import cut_windows
from acoustic.fitting.tracks import WINDOW_COUNTS, evaluate_clips, evaluate_recording, open_engine
from tests.support.clips import BEATS, N_FRAMES, NOTES, clip
from tests.support.tracks import made_tracks


@pytest.fixture(scope="module")
def engine(tiny_checkpoint: Path) -> Engine:
    return open_engine(load_checkpoint(CheckpointFolder.open(tiny_checkpoint)), 1)


def test_every_clip_is_evaluated_with_every_number_of_windows(engine: Engine) -> None:
    clips = [clip(BEATS, 1), replace(clip(NOTES, 2), track="song", source="other")]
    found = evaluate_clips(engine, clips)
    assert tuple(found.logits) == WINDOW_COUNTS
    for n, logits in found.logits.items():
        for each, made in zip(logits, clips, strict=True):
            windows = cut_windows(made.log_mel, N_FRAMES, n)
            np.testing.assert_array_equal(each, engine.logits(windows))
    assert found.labels.tolist() == [BEATS, NOTES]
    assert found.sources.tolist() == ["made", "other"]
    assert found.groups.tolist() == [group_hash(made.group) for made in clips]
    assert found.recordings.tolist() == ["number 0", "song"]
    assert found.distance(3, 0) is None


def test_a_clip_alone_has_the_logits_that_it_has_among_others(engine: Engine) -> None:
    clips = [clip(BEATS, seed) for seed in range(3)]
    together = evaluate_clips(engine, clips).logits[3]
    alone = evaluate_recording(engine, clips[1].log_mel, 3, None)
    np.testing.assert_array_equal(together[1], alone.logits)
    assert (alone.distance, alone.music) == (None, None)


def test_taking_tracks_takes_them_from_every_field() -> None:
    tracks = replace(made_tracks(6), distances={3: np.arange(6, dtype=np.float32)})
    chosen = np.array([False, True, False, False, True, False])
    part = tracks.take(chosen)
    assert len(part) == 2
    assert part.recordings.tolist() == ["r1", "r4"]
    assert part.labels.tolist() == tracks.labels[[1, 4]].tolist()
    assert (part.distance(3, 0), part.distance(3, 1), part.distance(1, 0)) == (1.0, 4.0, None)
    for n in (1, 3, 10):
        assert part.logits[n][1] is tracks.logits[n][4]
