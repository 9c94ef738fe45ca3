"""Distance of a window's features from the training data, by nearest neighbours.

The pooled features of training windows are stored in the checkpoint folder. The distance of a new
window is its cosine distance to the tenth-nearest of them, after centring on their mean.
The tenth, not the first: a single speech among the training tracks would make all speech look
familiar.

Source: Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors (2022).
Shapes: N windows, R references, D features.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.errors import CheckpointError

NEIGHBOURS_FILE = "neighbours.safetensors"
RANK = 10
"""Rank of the neighbour whose distance is returned; 1 would be the nearest."""

Features = npt.NDArray[np.float32]


class Neighbours:
    """Features of training windows, prepared for nearest-neighbour search.

    Args:
        references: (R, D) float, pooled features of training windows, R ≥ RANK.

    Raises:
        ValueError: fewer references than RANK.
    """

    def __init__(self, references: npt.NDArray[np.floating]) -> None:
        if len(references) < RANK:
            raise ValueError(f"{len(references)} references are too few: at least {RANK} needed")
        self.references = references.astype(np.float32)
        self._mean = self.references.mean(axis=0)
        self._units = _unit(self.references - self._mean)

    def distances(self, features: Features) -> npt.NDArray[np.float32]:
        """Cosine distance of each window to its RANK-th nearest reference: (N,), in [0, 2].

        Args:
            features: (N, D) float32, from the model that the references come from.
        """
        # one product per window: the last digits of an (N, R) product would depend on N
        similarity = np.stack([self._units @ row for row in _unit(features - self._mean)])
        # (N, R), the most similar RANK at the end: position -RANK is the RANK-th nearest
        nearest = np.partition(similarity, -RANK, axis=1)[:, -RANK]
        return np.asarray(np.clip(1 - nearest, 0, 2), np.float32)


def save_neighbours(folder: Path, neighbours: Neighbours, checkpoint_digest: str) -> None:
    """Write neighbours.safetensors into a checkpoint folder, in half precision.

    Args:
        folder: the checkpoint folder.
        neighbours: the references to store.
        checkpoint_digest: digest of the model that the references come from.
    """
    stored = save(
        {"references": neighbours.references.astype(np.float16)},
        metadata={"checkpoint_digest": checkpoint_digest},
    )
    (folder / NEIGHBOURS_FILE).write_bytes(stored)


def load_neighbours(folder: CheckpointFolder) -> Neighbours | None:
    """The references of a checkpoint folder, None where there are none.

    Args:
        folder: the checkpoint, whose model the features must come from.

    Raises:
        CheckpointError: malformed, or of another model.
    """
    path = folder.path / NEIGHBOURS_FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, "np") as file:
            found = (file.metadata() or {}).get("checkpoint_digest", "")
            neighbours = Neighbours(file.get_tensor("references"))
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{NEIGHBOURS_FILE} cannot be used: {error}") from error
    if found != folder.digest:
        raise CheckpointError(
            f"{NEIGHBOURS_FILE} is of model {found}, this one is {folder.digest}: "
            "run `acousticsense calibrate`"
        )
    return neighbours


def _unit(rows: Features) -> Features:
    # 1e-12: a row of zeros stays zero instead of NaN
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
