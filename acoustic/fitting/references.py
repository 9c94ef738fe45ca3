"""Reference features of training windows, from which a checkpoint's distances are measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.engine import Engine
from acoustic.classify.neighbours import RANK, Neighbours, load_neighbours
from acoustic.data.dataset import Clip
from acoustic.data.groups import group_hash, trained_groups
from acoustic.data.windows import cut_windows

WINDOWS_PER_CLIP = 2
MAX_CLIPS = 2048
"""Maximum number of clips: more would cost megabytes and time, and change distances little."""


def find_references(
    folder: CheckpointFolder, engine: Engine, clips: Sequence[Clip]
) -> Neighbours | None:
    """Neighbours from those clips that a checkpoint was trained on, else those that it has.

    Args:
        folder: the checkpoint.
        engine: engine of the checkpoint's model.
        clips: clips of the train split; with too few of them the stored references are returned.
    """
    trained = set(trained_groups(folder))
    # A checkpoint without a list of training groups is taken to be trained on all these clips.
    known = [clip for clip in clips if not trained or group_hash(clip.group) in trained]
    if len(known) * WINDOWS_PER_CLIP < RANK:
        return load_neighbours(folder)
    return collect_references(engine, known)


def collect_references(engine: Engine, clips: Sequence[Clip], seed: int = 0) -> Neighbours:
    """Build neighbours from windows of training clips, at most MAX_CLIPS drawn at random.

    Args:
        engine: engine of the model.
        clips: clips that the model was trained on.
        seed: random seed of the draw.

    Raises:
        ValueError: the clips give fewer than RANK windows.
    """
    if len(clips) > MAX_CLIPS:
        chosen = np.random.default_rng(seed).choice(len(clips), MAX_CLIPS, replace=False)
        clips = [clips[i] for i in np.sort(chosen)]
    n_frames = engine.input_shape[1]
    features = [
        engine.outputs(cut_windows(clip.log_mel, n_frames, WINDOWS_PER_CLIP)).features
        for clip in clips
    ]
    # float16 as in the stored file, so that scales are fitted to the distances that are served
    return Neighbours(np.concatenate(features).astype(np.float16))
