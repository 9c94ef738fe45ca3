"""The weights of musicnn, from the TensorFlow checkpoint that its package holds.

Its batch norms become factors and summands, or part of the layer behind them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from acoustic.classify.musicnn import (
    N_CHANNELS,
    N_MIDDLE_LAYERS,
    TEMPORAL,
    TIMBRAL,
    Musicnn,
)
from acoustic.errors import CheckpointError, ConfigError

TENSORFLOW_INDEX, TENSORFLOW_DATA = ".index", ".data-00000-of-00001"
"""Names of the files: the package stores them with an empty prefix."""

PREFIX = "patch_embed.musicnn."
"""Of the names of the trunk's weights in a checkpoint."""

EPSILON = 1e-3
"""TensorFlow's default, which the batch norms were trained with."""

Weights = npt.NDArray[np.float32]
Reader = Callable[[str], Weights]


def read_musicnn(folder: Path) -> dict[str, Tensor]:
    """Weights of the trunk, by their names in a vit_hybrid_musicnn checkpoint.

    Args:
        folder: MSD_musicnn of the package musicnn.

    Raises:
        ConfigError: tensorflow is not installed.
        CheckpointError: the files cannot be read, or are of another network.
    """
    read = _reader(folder)
    try:
        state = {f"{PREFIX}{name}": torch.from_numpy(x) for name, x in convert(read).items()}
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{folder.name} is not MSD_musicnn: {error}") from error
    wanted = {f"{PREFIX}{name}": tensor.shape for name, tensor in Musicnn().state_dict().items()}
    if {name: tensor.shape for name, tensor in state.items()} != wanted:
        raise CheckpointError(f"{folder.name} is not MSD_musicnn: its layers are others")
    return state


def convert(read: Reader) -> dict[str, Weights]:
    """Weights of the trunk by name.

    Args:
        read: gives a variable of the TensorFlow graph by its name.

    Raises:
        KeyError: the graph has no such variable.
    """
    factor, summand = _batch_norm(read, 0)
    state = {"normalise.factor": factor, "normalise.summand": summand}
    kinds = [("timbral", i) for i in range(len(TIMBRAL))]
    kinds += [("temporal", i) for i in range(len(TEMPORAL))]
    for number, (kind, i) in enumerate(kinds):
        factor, summand = _batch_norm(read, number + 1)
        sign = np.where(factor < 0, -1, 1).astype(np.float32)
        # TensorFlow: (frames, bands, 1, out); here: (out, 1, bands, frames)
        kernel = read(_numbered("conv2d", number, "kernel")).transpose(3, 2, 1, 0)
        bias = read(_numbered("conv2d", number, "bias"))
        state |= {
            f"{kind}.{i}.conv.weight": kernel * sign[:, None, None, None],
            f"{kind}.{i}.conv.bias": bias * sign,
            f"{kind}.{i}.affine.factor": factor,
            f"{kind}.{i}.affine.summand": summand,
            f"{kind}.{i}.sign": sign,
        }
    for i in range(N_MIDDLE_LAYERS):
        number = len(kinds) + i
        factor, summand = _batch_norm(read, number + 1)
        # (frames, in, 1, out) → (out, in, frames)
        kernel = read(_numbered("conv2d", number, "kernel"))[:, :, 0].transpose(2, 1, 0)
        state |= {
            f"middle.{i}.weight": kernel,
            f"middle.{i}.bias": read(_numbered("conv2d", number, "bias")),
            f"middle_affine.{i}.factor": factor,
            f"middle_affine.{i}.summand": summand,
        }
    state |= _dense(read, len(kinds) + N_MIDDLE_LAYERS + 1)
    return {name: np.ascontiguousarray(x, np.float32) for name, x in state.items()}


def _dense(read: Reader, first_norm: int) -> dict[str, Weights]:
    """The two dense layers with the batch norms before them."""
    kernel, bias = read("dense/kernel"), read("dense/bias")
    factor, summand = _batch_norm(read, first_norm)
    # maximum and mean of a channel are neighbours there; here all maxima come first
    order = np.arange(2 * N_CHANNELS).reshape(N_CHANNELS, 2).T.ravel()
    tags, tags_bias = read("dense_1/kernel"), read("dense_1/bias")
    tags_factor, tags_summand = _batch_norm(read, first_norm + 1)
    return {
        "dense.weight": (factor[:, None] * kernel)[order].T,
        "dense.bias": bias + summand @ kernel,
        "tags.weight": (tags_factor[:, None] * tags).T,
        "tags.bias": tags_bias + tags_summand @ tags,
    }


def _batch_norm(read: Reader, number: int) -> tuple[Weights, Weights]:
    """Factor and summand of a batch norm, as it is after training."""
    gamma, beta, mean, variance = (
        read(_numbered("batch_normalization", number, name))
        for name in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    factor = gamma / np.sqrt(variance + EPSILON)
    return factor, beta - factor * mean


def _numbered(layer: str, number: int, name: str) -> str:
    return f"{layer}_{number}/{name}" if number else f"{layer}/{name}"


def _reader(folder: Path) -> Reader:
    try:
        import tensorflow
    except ImportError as error:
        raise ConfigError(
            f"reading {folder.name} needs tensorflow: pip install tensorflow-cpu, or take the "
            "second trunk of a vit_hybrid_musicnn checkpoint"
        ) from error
    with tempfile.TemporaryDirectory() as copied:
        # TensorFlow takes an empty prefix for a folder
        for suffix in (TENSORFLOW_INDEX, TENSORFLOW_DATA):
            shutil.copy(folder / suffix, Path(copied) / f"model{suffix}")
        checkpoint = tensorflow.train.load_checkpoint(str(Path(copied) / "model"))
        names = checkpoint.get_variable_to_shape_map()
        variables = {name: np.asarray(checkpoint.get_tensor(name)) for name in names}
    return variables.__getitem__
