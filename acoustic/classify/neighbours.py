"""How far a window is from everything that the model was trained on.

The pooled features of training windows are stored beside the checkpoint; a new window's distance
is the cosine distance to its tenth-nearest of them, features centred on their mean. The tenth, not
the first: one speech among the training tracks would make all speech look familiar.

Source: Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors (2022).
Shapes: N windows, R references, D features.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from acoustic.errors import CheckpointError

NEIGHBOURS_FILE = "neighbours.safetensors"
RANK = 10
"""Which neighbour's distance counts."""

Features = npt.NDArray[np.float32]


class Neighbours:
    """Reference features, ready to be searched by one matrix product.

    Args:
        references: (R, D) float, R ≥ RANK.

    Raises:
        ValueError: fewer references than RANK.
    """

    def __init__(self, references: npt.NDArray[np.floating]) -> None:
        if len(references) < RANK:
            raise ValueError(f"{len(references)} references are too few: {RANK} are needed")
        self.references = references.astype(np.float32)
        self._mean = self.references.mean(axis=0)
        self._units = _unit(self.references - self._mean)

    def distances(self, features: Features) -> npt.NDArray[np.float32]:
        """(N,) cosine distances in [0, 2].

        Args:
            features: (N, D) float32 of the same model.
        """
        # one product a window: the digits of a larger product depend on how many share it
        similarity = np.stack([self._units @ row for row in _unit(features - self._mean)])
        nearest = np.partition(similarity, -RANK, axis=1)[:, -RANK]
        return np.asarray(np.clip(1 - nearest, 0, 2), np.float32)


def save_neighbours(folder: Path, neighbours: Neighbours, checkpoint_digest: str) -> None:
    """Write neighbours.safetensors into a checkpoint folder, in half precision."""
    stored = save(
        {"references": neighbours.references.astype(np.float16)},
        metadata={"checkpoint_digest": checkpoint_digest},
    )
    (folder / NEIGHBOURS_FILE).write_bytes(stored)


def load_neighbours(folder: Path, checkpoint_digest: str) -> Neighbours | None:
    """The references of a checkpoint folder, None where there are none.

    Args:
        folder: the checkpoint.
        checkpoint_digest: of the model that the features must come from.

    Raises:
        CheckpointError: malformed, or of another model.
    """
    path = folder / NEIGHBOURS_FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, "np") as file:
            found = (file.metadata() or {}).get("checkpoint_digest", "")
            neighbours = Neighbours(file.get_tensor("references"))
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{NEIGHBOURS_FILE} cannot be used: {error}") from error
    if found != checkpoint_digest:
        raise CheckpointError(
            f"{NEIGHBOURS_FILE} is of model {found}, this one is {checkpoint_digest}: "
            "calibrate the checkpoint anew"
        )
    return neighbours


def _unit(rows: Features) -> Features:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
