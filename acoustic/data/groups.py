"""Groups of recordings (artists, albums, sources) that must stay on one side of a split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from acoustic.checkpoint_folder import TRAINING_FILE, CheckpointFolder
from acoustic.errors import ConfigError

if TYPE_CHECKING:
    from acoustic.data.dataset import Clip
    from acoustic.data.sources import Row


def group_key(row: Row) -> str:
    """Key of what must stay on one side of a split: the group, else the recording itself.

    A name is the same artist in every data set, so it is the key by itself. A number only has a
    meaning within its own data set, so its key includes the source.
    """
    if row.group and not row.group.isdigit():
        return row.group
    return f"{row.source}:{row.group or row.file}"


def joined(groups: Sequence[str], recordings: Sequence[str]) -> npt.NDArray[np.int64]:
    """(K,) group numbers after merging the groups that share a recording.

    Args:
        groups: (K,) names of the groups.
        recordings: (K,) names of the recordings, the same for repeats of one recording.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names, group = np.unique(groups, return_inverse=True)
    tracks, track = np.unique(recordings, return_inverse=True)
    # A bipartite graph: nodes are groups, then recordings, and every row links one of each. Its
    # connected components are the merged groups.
    n = len(names) + len(tracks)
    links = coo_array((np.ones(len(groups)), (group, len(names) + track)), shape=(n, n))
    _, component = connected_components(links, directed=False)
    return np.asarray(component[group], np.int64)


def without_repeats(clips: Iterable[Clip]) -> list[Clip]:
    """Clips without recordings that an earlier data set has under the same track name."""
    seen: dict[str, str] = {}
    return [
        clip
        for clip in clips
        if not clip.track or seen.setdefault(clip.track, clip.source) == clip.source
    ]


def refuse_trained_on(folder: CheckpointFolder, clips: Sequence[Clip]) -> None:
    """Check that no clip belongs to a group that the checkpoint was trained on.

    Without a split column the split is drawn at random: other data, another ratio or another seed
    hold out other groups.

    Args:
        folder: checkpoint folder; nothing is checked if it does not list its training groups.
        clips: clips to calibrate or evaluate on.

    Raises:
        ConfigError: a clip belongs to a training group.
    """
    trained = set(trained_groups(folder))
    met = [clip for clip in clips if group_hash(clip.group) in trained]
    if met:
        raise ConfigError(
            f"{len(met)} of {len(clips)} valid recordings belong to groups of the model's training "
            f"data, such as {met[0].group!r}: use the data, --valid-ratio and --seed of training"
        )


def trained_groups(folder: CheckpointFolder) -> tuple[str, ...]:
    """Hashes of the groups that a checkpoint was trained on; empty if it does not list them."""
    if not folder.has(TRAINING_FILE):
        return ()
    return tuple(folder.read_json(TRAINING_FILE).get("train_groups", ()))


def group_hash(group: str) -> str:
    """Short hash of a group: 8 hex digits that do not show its name."""
    return hashlib.sha256(group.encode()).hexdigest()[:8]
