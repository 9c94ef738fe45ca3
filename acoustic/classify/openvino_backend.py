"""Runs a part of a model through OpenVINO, which fuses and orders its operations for this CPU.

The part is traced once with an open batch size. A trace can keep a number that belonged to the
example alone, so the engine compares the whole model with eager PyTorch before it is ready.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acoustic.errors import ConfigError

logger = logging.getLogger(__name__)

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoModule(nn.Module):
    """A module compiled by OpenVINO: (N, …) float32 → (N, …) float32 on a CPU.

    Args:
        module: what is compiled, in evaluation mode and float32.
        example: an input with at least two rows.
        precision: "fp32" or "bf16", the arithmetic.
        n_threads: CPU threads of a call.
        cache: folder for the traced and the compiled model, "" for none.

    Raises:
        ConfigError: the package openvino is not installed, or it cannot trace the module.
    """

    def __init__(
        self, module: nn.Module, example: Tensor, precision: str, n_threads: int, cache: str
    ) -> None:
        super().__init__()
        core = _openvino().Core()
        options = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": n_threads,
            "NUM_STREAMS": 1,
        }
        if cache:
            options["CACHE_DIR"] = cache
        compiled = core.compile_model(_traced(core, module, example, cache), "CPU", options)
        self._request = compiled.create_infer_request()

    def forward(self, x: Tensor) -> Tensor:
        """The module's result of a batch; one call at a time."""
        inputs = {0: x.float().contiguous().numpy()}
        (result,) = self._request.infer(inputs, share_inputs=True).values()
        return torch.from_numpy(result)


def _openvino() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise ConfigError(
            "backend openvino needs the package openvino: pip install 'acousticsense[openvino]'"
        ) from error
    return openvino


def _traced(core: Any, module: nn.Module, example: Tensor, cache: str) -> Any:
    """OpenVINO's form of a module; from the cache where the same one was traced before."""
    path = Path(cache) / f"{_digest(module, example)}.xml" if cache else None
    if path is not None and path.exists():
        return core.read_model(path)
    shape = [-1, *example.shape[1:]]
    try:
        with torch.no_grad():
            model = _openvino().convert_model(module, example_input=example, input=shape)
    except Exception as error:  # whatever its front end raises
        raise ConfigError(f"OpenVINO cannot trace this model: {error}") from error
    if path is not None:
        _save(model, path)
    return model


def _save(model: Any, path: Path) -> None:
    """Write a traced model; the weights first, so that another process finds it whole."""
    import openvino

    temporary = path.with_name(f".{path.stem}-{id(model)}.xml")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        openvino.save_model(model, temporary, compress_to_fp16=False)
        temporary.with_suffix(".bin").replace(path.with_suffix(".bin"))
        temporary.replace(path)
    except OSError as error:
        logger.warning("compiled model cannot be kept error=%s", error.strerror)


def _digest(module: nn.Module, example: Tensor) -> str:
    digest = hashlib.sha256(
        f"{_openvino().__version__}:{torch.__version__}:{tuple(example.shape)}:{module}".encode()
    )
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:32]
