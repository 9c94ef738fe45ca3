"""The features of training windows that a checkpoint's distances are measured from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from acoustic.classify.engine import Engine
from acoustic.classify.neighbours import RANK, Neighbours, load_neighbours
from acoustic.training.dataset import Clip
from acoustic.training.tracks import group_hash, trained_groups
from acoustic.training.validate import cut_windows

WINDOWS_PER_CLIP = 2
MAX_CLIPS = 2048
"""More references than these cost megabytes and time, and change distances little."""


def find_references(
    folder: Path, engine: Engine, digest: str, clips: Sequence[Clip]
) -> Neighbours | None:
    """Neighbours from those clips that a checkpoint was trained on, else those that it has.

    Args:
        folder: the checkpoint.
        engine: its model.
        digest: its own.
        clips: of the train split; too few of them, and what the folder has stays.
    """
    trained = set(trained_groups(folder))
    known = [clip for clip in clips if not trained or group_hash(clip.group) in trained]
    if len(known) * WINDOWS_PER_CLIP < RANK:
        return load_neighbours(folder, digest)
    return collect_references(engine, known)


def collect_references(engine: Engine, clips: Sequence[Clip], seed: int = 0) -> Neighbours:
    """Neighbours from windows of training clips, a random share of a large library.

    Args:
        engine: the model.
        clips: that it was trained on.
        seed: of the choice.

    Raises:
        ValueError: too few clips.
    """
    if len(clips) > MAX_CLIPS:
        chosen = np.random.default_rng(seed).choice(len(clips), MAX_CLIPS, replace=False)
        clips = [clips[i] for i in np.sort(chosen)]
    n_frames = engine.input_shape[1]
    features = [
        engine.answers(cut_windows(clip.log_mel, n_frames, WINDOWS_PER_CLIP))[1] for clip in clips
    ]
    # as they will be stored, so that scales are fitted to the distances that are served
    return Neighbours(np.concatenate(features).astype(np.float16))
