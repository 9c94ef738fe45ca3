"""Settings of the inference engine; does not import torch, so that any process can read them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Accelerator = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Backend = Literal["auto", "eager", "compile", "openvino", "tensorrt"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """Settings of the inference engine: device, precision, backend and batch sizes.

    Attributes:
        accelerator: device to run on; "auto" takes the first available of cuda, mps and cpu.
        precision: number format of the model; "auto" follows the table in `engine`.
        backend: eager or compiled execution; "auto" follows the table in `engine`. openvino and
            tensorrt need the extra of that name, and are compared with eager before they answer.
        compile_cache: folder in which openvino and tensorrt keep compiled models, "" for none;
            PyTorch's own compiler has TORCHINDUCTOR_CACHE_DIR.
        batch_sizes: batch sizes in windows that compiled code is padded to, rising; the last one is
            the largest batch.
        max_batch_bytes: largest batch in bytes of windows; larger padded sizes are left out, except
            the smallest. It bounds the memory of models whose windows are long.
        n_threads: CPU threads of one model call, ≥ 1; more replicas beat more threads.
    """

    accelerator: Accelerator = "auto"
    precision: Precision = "auto"
    backend: Backend = "auto"
    compile_cache: str = ""
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    max_batch_bytes: int = 4 << 20
    n_threads: int = 1

    def __post_init__(self) -> None:
        sizes = self.batch_sizes
        if not sizes or sizes[0] < 1 or any(a >= b for a, b in pairwise(sizes)):
            raise ValueError(f"batch_sizes must be positive and rising, got {sizes}")
        if self.max_batch_bytes < 1:
            raise ValueError(f"max_batch_bytes is {self.max_batch_bytes}, must be positive")
        if self.n_threads < 1:
            raise ValueError(f"n_threads is {self.n_threads}, must be at least 1")
