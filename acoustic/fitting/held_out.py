"""The recordings that a checkpoint is calibrated or evaluated on, and the engine for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.checkpoint import Checkpoint, load_checkpoint
from acoustic.classify.engine import Engine
from acoustic.data.dataset import Clip, Dataset, read_dataset
from acoustic.data.groups import refuse_trained_on, trained_groups, without_repeats
from acoustic.data.unseen import is_published
from acoustic.fitting.tracks import open_engine


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeldOut:
    """A checkpoint beside labelled recordings that it was not trained on.

    Attributes:
        checkpoint: the loaded checkpoint.
        engine: its model in FP32 on the CPU.
        dataset: all recordings, with the checkpoint's labels.
        valid: clips of the valid split, each recording once.
        train: clips of the train split, each recording once.
    """

    checkpoint: Checkpoint
    engine: Engine
    dataset: Dataset
    valid: list[Clip]
    train: list[Clip]


def open_held_out(
    checkpoint: Path,
    data: Sequence[Path],
    *,
    valid_ratio: float = 0.2,
    seed: int = 0,
    n_threads: int = 1,
    collection: str | None = None,
) -> HeldOut:
    """Open a checkpoint and read data in its geometry.

    Args:
        checkpoint: folder of the checkpoint.
        data: folders or manifests; see `data.sources`.
        valid_ratio: share to hold out where the data states no split.
        seed: random seed of the split.
        n_threads: CPU threads of the engine.
        collection: name of the manifests' column of collections, if another than "collection".

    Raises:
        CheckpointError: the checkpoint cannot be used.
        ConfigError: the data cannot be used, or valid recordings are of groups that the
            checkpoint was trained on.
    """
    folder = CheckpointFolder.open(checkpoint)
    loaded = load_checkpoint(folder)
    dataset = read_dataset(
        data,
        folder.mel,
        labels=folder.labels,
        valid_ratio=valid_ratio,
        seed=seed,
        collection=collection,
        trained_groups=trained_groups(folder),
        is_held_out=True,
    )
    # published weights were not trained on any of these clips: all of them are held out
    clips = dataset.clips if is_published(folder) else dataset.split("valid")
    valid = without_repeats(clips)
    refuse_trained_on(folder, valid)
    return HeldOut(
        checkpoint=loaded,
        engine=open_engine(loaded, n_threads),
        dataset=dataset,
        valid=valid,
        train=[] if is_published(folder) else without_repeats(dataset.split("train")),
    )
