"""Writes a checkpoint's network as ONNX: windows as the service stores them → logits and features.

Shapes: N windows, any number; M mel bands, T frames, C classes, D features.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from acoustic.classify.backends import probability_difference
from acoustic.classify.checkpoint import Checkpoint
from acoustic.errors import ConfigError
from acoustic.types import WindowValues

OPSET = 20

MAX_DIFFERENCE = 0.001
"""Largest difference of a probability; both compute in float32."""


class _Network(nn.Module):
    """The scaling of windows and the network, with its outputs side by side taken apart."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.model, self.scaling = checkpoint.model.eval().float(), checkpoint.scaling
        self.ends = (self.model.config.n_classes, self.model.config.width)

    def forward(self, windows: Tensor) -> tuple[Tensor, ...]:
        """(N, M, T) → (N, C), (N, D) and, where the model has one, (N, 1) log-odds of music."""
        rows = self.model.outputs(self.scaling.apply(windows))
        n_classes, width = self.ends
        parts = [rows[:, :n_classes], rows[:, n_classes : n_classes + width]]
        return (*parts, rows[:, n_classes + width :]) if self.model.tags is not None else (*parts,)


def export_onnx(checkpoint: Checkpoint, path: Path, music: WindowValues | None = None) -> float:
    """Write the network to an .onnx file and compare it with PyTorch.

    Args:
        checkpoint: the loaded checkpoint.
        path: file to write; its folder must exist.
        music: (S, M, T) windows to compare on, beside noise: to noise many models give all genres
            alike, whatever is wrong.

    Returns:
        Largest difference of a probability between ONNX Runtime and PyTorch, both in float32, over
        the music and over one and three windows of noise.

    Raises:
        ConfigError: the extra onnx is not installed, or the exported network answers otherwise;
            nothing is written.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  # torch.onnx needs it
    except ImportError as error:
        raise ConfigError(
            "an ONNX file needs packages of its own: pip install 'acousticsense[onnx]'"
        ) from error
    network = _Network(checkpoint).eval()
    names = ["logits", "features", "music"][: 3 if network.model.tags is not None else 2]
    example, unchecked = torch.from_numpy(_noise(checkpoint, 3)), path.with_name(f".{path.name}")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (example,), str(unchecked), input_names=["windows"], output_names=names,
            dynamic_shapes=({0: torch.export.Dim("windows", min=1)},), opset_version=OPSET,
            dynamo=True, external_data=False, verbose=False,
        )  # fmt: skip
    try:
        session = onnxruntime.InferenceSession(str(unchecked), providers=["CPUExecutionProvider"])
        tried = [_noise(checkpoint, 1), _noise(checkpoint, 3)]
        tried += [] if music is None else [music]
        difference = max(_difference(session, network, windows) for windows in tried)
        unchecked.replace(path)
    finally:
        unchecked.unlink(missing_ok=True)
    return difference


def _difference(session: Any, network: _Network, windows: npt.NDArray[Any]) -> float:
    found = session.run(["logits"], {"windows": windows})[0]
    with torch.inference_mode():
        expected = network(torch.from_numpy(windows))[0]
    difference = probability_difference(torch.from_numpy(found), expected)
    if not difference <= MAX_DIFFERENCE:  # also where it is not a number
        raise ConfigError(
            f"the ONNX file answers otherwise than PyTorch: probabilities differ by "
            f"{difference:.4f}, limit is {MAX_DIFFERENCE}; nothing was written"
        )
    return difference


def _noise(checkpoint: Checkpoint, n: int) -> npt.NDArray[Any]:
    """Windows of noise, as the model takes them."""
    mel = checkpoint.manifest.mel
    rng, shape = np.random.default_rng(n), (n, mel.n_mels, mel.n_frames)
    if mel.is_absolute:
        return rng.normal(size=shape).astype(np.float16)
    return rng.integers(0, 256, shape).astype(np.uint8)
