"""Turns a model into the function that an engine calls: one way for each backend of a plan.

Shapes: N windows, C classes, D features.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from acoustic.classify.engine_config import EngineConfig
from acoustic.classify.mobilenet import MobileNetStem
from acoustic.classify.musicnn import Musicnn
from acoustic.classify.vit import VisionTransformer
from acoustic.errors import ConfigError

logger = logging.getLogger(__name__)

Outputs = Callable[[Tensor], Tensor]
"""(N, 1, M, T) model input → (N, C + D) or (N, C + D + 1); see `VisionTransformer.outputs`."""

DTYPES = {
    "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.float32,
}  # fmt: skip

CHECKED = ("openvino", "tensorrt")
"""Backends that translate the model; they are compared with eager before they answer."""

MAX_DIFFERENCE = 0.02
"""Largest accepted difference of a probability from eager float32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutionPlan:
    """Device, precision and backend of a model, as resolved by `engine.plan_execution`.

    Attributes:
        device: "cuda", "mps" or "cpu".
        precision: "fp32", "bf16", "fp16" or "int8".
        backend: "eager", "compile", "openvino" or "tensorrt".
    """

    device: str
    precision: str
    backend: str


def has_only_the_trunk_reduced(model: VisionTransformer, plan: ExecutionPlan) -> bool:
    """Whether only a pre-trained trunk runs in the plan's precision.

    So it is on a CPU: bf16 products of as few tokens as follow the trunk depend on how many windows
    share the batch.
    """
    return plan.device == "cpu" and isinstance(model.patch_embed, MobileNetStem)


def input_dtype(model: VisionTransformer, plan: ExecutionPlan) -> torch.dtype:
    """Dtype of the model's input in a plan: that of its first weights.

    Two trunks make their own inputs of the windows first, which takes float32.
    """
    is_exact = plan.backend == "openvino" or model.config.musicnn
    return torch.float32 if is_exact else DTYPES[plan.precision]


def prepare(
    model: VisionTransformer, plan: ExecutionPlan, config: EngineConfig, n_sizes: int, probe: Tensor
) -> Outputs:
    """The model as a function on its device; its weights are converted in place.

    Args:
        model: the network in evaluation mode, float32, on the CPU.
        plan: where and how it runs.
        config: threads, and where compiled code is kept.
        n_sizes: number of batch sizes that compiled code is made for.
        probe: (2 or more, 1, M, T) float32 model input, to compare backends with.

    Raises:
        ConfigError: a package is missing, or the backend's answers differ from those of eager.
    """
    if plan.backend not in CHECKED:
        return _converted(model, plan, config, n_sizes)
    with torch.inference_mode():
        expected = model.outputs(probe)
    n_classes = model.config.n_classes
    run = _converted(model, plan, config, n_sizes)
    dtype = input_dtype(model, plan)
    for n in (len(probe), 1):  # a trace may have kept the number of rows of its example
        with torch.inference_mode():
            found = run(probe[:n].to(plan.device, dtype)).float().cpu()
        difference = probability_difference(found[:, :n_classes], expected[:n, :n_classes])
        if not difference <= MAX_DIFFERENCE:  # also where it is not a number
            raise ConfigError(
                f"backend {plan.backend} answers otherwise than eager: probabilities differ by "
                f"{difference:.3f}, limit is {MAX_DIFFERENCE}; choose backend auto"
            )
    logger.info("backend %s: probabilities within %.4f of eager", plan.backend, difference)
    return run


def probability_difference(logits: Tensor, expected: Tensor) -> float:
    """Largest difference of a probability between logits (N, C) and the expected ones."""
    probabilities, wanted = logits.softmax(dim=1), expected.softmax(dim=1)
    return float((probabilities - wanted).abs().max())


def _converted(
    model: VisionTransformer, plan: ExecutionPlan, config: EngineConfig, n_sizes: int
) -> Outputs:
    if plan.backend == "openvino":
        return _through_openvino(model, plan, config)
    if plan.precision == "int8":
        _join_windows(model, plan)
        return _quantised(model)
    model = model.to(plan.device)
    trunk_only = has_only_the_trunk_reduced(model, plan)
    for part in _trunks(model) if trunk_only else [model]:
        part.to(DTYPES[plan.precision])
    model.head_norm.float()
    model.head.float()  # the last products stay exact; see rowwise
    if model.tags is not None:
        model.tags.float()
    if model.config.musicnn and not trunk_only:
        second = cast(Musicnn, cast(MobileNetStem, model.patch_embed).musicnn)
        second.float()
        for part in second.convolutions():
            part.to(DTYPES[plan.precision])
    if plan.backend == "eager":
        _join_windows(model, plan)
        return model.outputs
    # Each padded size gets its own static graph; Dynamo's default stops compiling at eight.
    torch._dynamo.config.recompile_limit = max(16, 2 * n_sizes)
    if plan.backend == "tensorrt":
        return _through_tensorrt(model, config)
    mode = "reduce-overhead" if plan.device == "cuda" else "default"
    compiled: Outputs = torch.compile(model.outputs, mode=mode, dynamic=False)
    return compiled


def _join_windows(model: VisionTransformer, plan: ExecutionPlan) -> None:
    """Let the trunk of a hybrid take several windows at once, where that changes no digit."""
    if plan.device == "cpu" and isinstance(model.patch_embed, MobileNetStem):
        model.patch_embed.join_windows(model.config.input_height, model.config.input_width)


def _trunks(model: VisionTransformer) -> list[nn.Module]:
    """The pre-trained convolutions of a hybrid."""
    stem = cast(MobileNetStem, model.patch_embed)
    return [stem.trunk, *([] if stem.musicnn is None else stem.musicnn.convolutions())]


def _through_openvino(
    model: VisionTransformer, plan: ExecutionPlan, config: EngineConfig
) -> Outputs:
    """The trunk of a hybrid, or everything up to the pooled features, compiled by OpenVINO.

    The heads stay in PyTorch: they are cheap, and their products are exact. So does a second trunk,
    whose wide filters OpenVINO convolves more slowly.
    """
    from acoustic.classify.openvino_backend import OpenVinoModule

    example = torch.rand(2, 1, model.config.input_height, model.config.input_width)
    settings = (plan.precision, config.n_threads, config.compile_cache)
    if isinstance(model.patch_embed, MobileNetStem):
        stem = model.patch_embed
        trunk = OpenVinoModule(stem.trunk, stem.input(example), *settings)
        setattr(stem, "trunk", trunk)  # noqa: B010  # another type of module
    else:
        pooled = OpenVinoModule(_Pooled(model), example, *settings)
        setattr(model, "pooled", pooled)  # noqa: B010  # in place of the method
    return model.outputs


class _Pooled(nn.Module):
    """The part of a model up to its pooled features."""

    def __init__(self, model: VisionTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, M, T) → (N, D)."""
        return self.model.pool(self.model.embed(x))


def _quantised(model: VisionTransformer) -> Outputs:
    """The blocks' linear layers with int8 weights, their inputs quantised as they come.

    The guide's section 3.3. The heads stay in float32.
    """
    quantise: Any = torch.ao.quantization.quantize_dynamic
    quantise(model.blocks, {nn.Linear}, dtype=torch.qint8, inplace=True)
    return model.outputs


def _through_tensorrt(model: VisionTransformer, config: EngineConfig) -> Outputs:
    """Compiled by TensorRT for every padded size; engines are kept in the cache folder."""
    try:
        import torch_tensorrt  # noqa: F401  # registers the backend
    except ImportError as error:
        raise ConfigError(
            "backend tensorrt needs the package torch-tensorrt: "
            "pip install 'acousticsense[tensorrt]'"
        ) from error
    options: dict[str, Any] = {
        "use_explicit_typing": True,  # the weights' own precisions
        "cache_built_engines": bool(config.compile_cache),
        "reuse_cached_engines": bool(config.compile_cache),
    }
    if config.compile_cache:
        options["engine_cache_dir"] = config.compile_cache
    compiled: Outputs = torch.compile(
        model.outputs, backend="tensorrt", dynamic=False, options=options
    )
    return compiled
