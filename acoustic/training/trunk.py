"""The pre-trained trunk of a vit_hybrid: its front end, and where its weights come from.

Shapes: M mel bands, T frames.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.checkpoint import load_checkpoint
from acoustic.classify.mobilenet import EMBEDDING, N_AUDIOSET, MobileNet
from acoustic.classify.normalise import Scaling
from acoustic.errors import CheckpointError, ConfigError
from acoustic.geometry import MelConfig

FRONT_END = MelConfig(
    sample_rate=16_000, n_fft=512, win_length=400, hop_length=160, n_mels=64,
    f_min=125.0, f_max=7_500.0, n_frames=480, bands="htk",
)  # fmt: skip
"""The front end of YAMNet, and 4.8 s: three windows stay under Ray's 100 KiB inline limit."""

SCALING = Scaling(kind="log_magnitude", peak=3.7, offset=0.001)
"""YAMNet's ln(magnitude + 0.001). Its inputs have a level; ours are relative to the loudest value
of a window, which is set to the median of that value over music."""

TRUNK = ("patch_embed.trunk.", "tags.audioset.")
"""Prefixes of the names of the trunk's weights in a checkpoint."""


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
    return {k: v for k, v in model.state_dict().items() if k.startswith(TRUNK)}


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
