"""The pre-trained trunk of a vit_hybrid: the scaling of its input, and where its weights come from.

Shapes: M mel bands, T frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.checkpoint import load_checkpoint
from acoustic.classify.mobilenet import EMBEDDING, N_AUDIOSET, MobileNet
from acoustic.classify.normalise import Scaling
from acoustic.classify.trunk_windows import BOTH, OFFSET, PEAK, YAMNET
from acoustic.classify.vit import VisionTransformer
from acoustic.errors import CheckpointError, ConfigError
from acoustic.geometry import MelConfig
from acoustic.training.read_musicnn import PREFIX, TENSORFLOW_INDEX, read_musicnn

SCALING = Scaling(kind="log_magnitude", peak=PEAK, offset=OFFSET)
"""YAMNet's ln(magnitude + 0.001). Its inputs have a level; ours are relative to the loudest value
of a window, which is set to the median of that value over music."""

BOTH_SCALING = Scaling(kind="log_magnitude", peak=PEAK, offset=1e-5)
"""The same of windows with the bands of two trunks: ln(√power + 0.0001)."""

TRUNK = ("patch_embed.trunk.", "tags.audioset.")
"""Prefixes of the names of the trunk's weights in a checkpoint."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Front:
    """What the windows of a pre-trained trunk are.

    Attributes:
        mel: their geometry.
        scaling: from windows to the model's input.
    """

    mel: MelConfig
    scaling: Scaling


FRONTS = {
    "vit_hybrid": Front(mel=YAMNET, scaling=SCALING),
    "vit_hybrid_musicnn": Front(mel=BOTH, scaling=BOTH_SCALING),
}
"""Variant with pre-trained trunks → its front end."""


def read_trunk(path: Path) -> dict[str, Tensor]:
    """Weights of the trunk, by their names in a vit_hybrid checkpoint.

    Args:
        path: a vit_hybrid checkpoint folder, or YAMNet as a TensorFlow Lite file (its int8 weights
            are dequantised; needs ai-edge-litert).

    Raises:
        ConfigError: ai-edge-litert is not installed.
        CheckpointError: the file or folder has no such trunk.
    """
    if path.suffix == ".tflite":
        return _from_tflite(path)
    model = load_checkpoint(CheckpointFolder.open(path)).model
    if model.tags is None:
        raise CheckpointError(f"{path} has no pre-trained trunk: only a vit_hybrid has one")
    return _named(model, TRUNK)


def read_second_trunk(path: Path) -> dict[str, Tensor]:
    """Weights of the second trunk, by their names in a vit_hybrid_musicnn checkpoint.

    Args:
        path: a vit_hybrid_musicnn checkpoint folder, or the folder MSD_musicnn of the package
            musicnn (a TensorFlow checkpoint; needs tensorflow).

    Raises:
        ConfigError: tensorflow is not installed.
        CheckpointError: the folder has no such trunk.
    """
    if (path / TENSORFLOW_INDEX).exists():
        return read_musicnn(path)
    model = load_checkpoint(CheckpointFolder.open(path)).model
    if not model.config.musicnn:
        raise CheckpointError(
            f"{path} has no second trunk: only a vit_hybrid_musicnn has one, or the folder "
            "MSD_musicnn of the package musicnn"
        )
    return _named(model, (PREFIX,))


def _named(model: VisionTransformer, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    return {k: v for k, v in model.state_dict().items() if k.startswith(prefixes)}


def _from_tflite(path: Path) -> dict[str, Tensor]:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ConfigError(
            f"reading {path.name} needs ai-edge-litert: pip install ai-edge-litert, or take the "
            "trunk of a vit_hybrid checkpoint"
        ) from error
    interpreter = Interpreter(str(path), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    weights = _Weights(interpreter)
    state: dict[str, Tensor] = {}
    n_convolutions = 0
    for operation in interpreter._get_ops_details():
        name, inputs = operation["op_name"], list(operation["inputs"])
        is_convolution = name in ("CONV_2D", "DEPTHWISE_CONV_2D")
        if not is_convolution and name != "FULLY_CONNECTED":
            continue
        kernel = weights.of(inputs[1])
        if not is_convolution and len(kernel) != N_AUDIOSET:  # the file's own mel filters
            continue
        bias = weights.of(inputs[2])
        if len(kernel) == N_AUDIOSET:
            prefix, kernel = "tags.audioset.", kernel.reshape(N_AUDIOSET, -1)
        else:
            # TensorFlow: (out, time, band, in), or (1, time, band, out) depthwise; here: (out, in,
            # band, time)
            order = (0, 3, 2, 1) if name == "CONV_2D" else (3, 0, 2, 1)
            prefix, kernel = f"{TRUNK[0]}layers.{n_convolutions}.", kernel.transpose(order)
            n_convolutions += 1
        state[f"{prefix}weight"] = torch.from_numpy(np.ascontiguousarray(kernel))
        state[f"{prefix}bias"] = torch.from_numpy(bias)
    _check(state, path)
    return state


class _Weights:
    """Constant tensors of a TensorFlow Lite model, dequantised."""

    def __init__(self, interpreter: object) -> None:
        self._interpreter = interpreter
        self._details = {d["index"]: d for d in interpreter.get_tensor_details()}  # type: ignore[attr-defined]
        # weights may reach a layer through a DEQUANTIZE: its input is the stored tensor
        self._stored = {
            op["outputs"][0]: op["inputs"][0]
            for op in interpreter._get_ops_details()  # type: ignore[attr-defined]
            if op["op_name"] == "DEQUANTIZE"
        }

    def of(self, index: int) -> npt.NDArray[np.float32]:
        index = self._stored.get(index, index)
        values = self._interpreter.get_tensor(index)  # type: ignore[attr-defined]
        if not np.issubdtype(values.dtype, np.integer):
            return np.asarray(values, np.float32).copy()
        parameters = self._details[index]["quantization_parameters"]
        scales = parameters["scales"]
        zeros = np.broadcast_to(parameters["zero_points"], scales.shape)
        shape = [1] * values.ndim
        if len(scales) > 1:
            shape[parameters["quantized_dimension"]] = len(scales)
        dequantised = (values.astype(np.float32) - zeros.reshape(shape)) * scales.reshape(shape)
        return np.asarray(dequantised, np.float32)


def _check(state: dict[str, Tensor], path: Path) -> None:
    wanted = {f"{TRUNK[0]}{k}": v.shape for k, v in MobileNet().state_dict().items()}
    wanted |= {"tags.audioset.weight": torch.Size((N_AUDIOSET, EMBEDDING // 2))}
    wanted |= {"tags.audioset.bias": torch.Size((N_AUDIOSET,))}
    if {k: v.shape for k, v in state.items()} != wanted:
        raise CheckpointError(f"{path.name} is not YAMNet: its layers are others")
