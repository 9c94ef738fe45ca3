"""Which valid recordings are of collections that the model was never trained on.

A collection is a library, a label, a shop, a data set: whatever brought recordings together. Its
recordings share encoders, loudness, taste and the idea of what a genre is. Accuracy on new artists
of known collections says nothing about music from elsewhere.

Source: Bogdanov et al., Cross-Collection Evaluation for Music Classification Tasks (ISMIR 2016).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from acoustic.checkpoint_folder import TRAINING_FILE, CheckpointFolder
from acoustic.data.groups import group_hash

logger = logging.getLogger(__name__)

PUBLISHED = "published"
"""Stands for the collections of imported weights; the hash of no collection."""

MIN_COLLECTIONS = 10
"""Fewest unseen collections that say what holds for another: nine support sets of 90 %."""


def trained_collections(folder: CheckpointFolder) -> tuple[str, ...]:
    """Hashes of the collections that a checkpoint was trained on; empty if it lists none.

    What published weights were trained on is not listed anywhere: it is taken for none of the
    recordings here.
    """
    if is_published(folder):
        return (PUBLISHED,)
    if not folder.has(TRAINING_FILE):
        return ()
    return tuple(folder.read_json(TRAINING_FILE).get("train_collections", ()))


def is_published(folder: CheckpointFolder) -> bool:
    """Whether a checkpoint has imported weights that were not trained further here."""
    return bool(folder.manifest.source) and not folder.has(TRAINING_FILE)


def unseen(collections: Sequence[str], trained: Iterable[str]) -> npt.NDArray[np.bool_]:
    """(K,) whether each recording is of a collection that was not trained on.

    Args:
        collections: (K,) names of the recordings' collections.
        trained: hashes of the trained collections; none at all means that they are not known, and
            no recording counts as unseen. Of published weights all do, if there are enough
            collections to weigh them; fewer are taken as one.
    """
    known = set(trained)
    if PUBLISHED in known and len(set(collections)) < MIN_COLLECTIONS:
        return np.zeros(len(collections), bool)
    return np.array([bool(known) and group_hash(each) not in known for each in collections], bool)


def describe_unseen(n_tracks: int, n_unseen: int, n_collections: int) -> str:
    """What the valid recordings can say about music from elsewhere, in a sentence or two.

    Args:
        n_tracks: number of valid recordings.
        n_unseen: how many of them are of collections that were not trained on.
        n_collections: number of those collections.
    """
    if n_unseen:
        return (
            f"{n_unseen} of {n_tracks} valid recordings are of {n_collections} collections that "
            "were not trained on."
        )
    return (
        f"All {n_tracks} valid recordings are of collections that were trained on too. Their "
        "accuracy holds for new artists of the same collections; on music from elsewhere it may "
        "be far lower. State the collection of each recording, or add recordings from elsewhere."
    )


def report_unseen(
    valid: Sequence[str], trained: Iterable[str], warn: logging.Logger = logger
) -> str:
    """The sentences of `describe_unseen` for the names of collections; a warning if all are known.

    Args:
        valid: name of the collection of each valid recording.
        trained: hashes of the trained collections.
        warn: logger of the warning.
    """
    trained = set(trained)
    flags = unseen(valid, trained)
    if PUBLISHED in trained and not flags.any():
        return (
            f"What the published weights were trained on is not known, and {len(set(valid))} "
            f"collections are too few to say what holds for others: {MIN_COLLECTIONS} are needed."
        )
    n_collections = len({name for name, flag in zip(valid, flags, strict=True) if flag})
    text = describe_unseen(len(valid), int(flags.sum()), n_collections)
    if len(valid) and not flags.any():
        warn.warning("%s", text)
    return text
