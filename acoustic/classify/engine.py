"""Runs a model on one device, in one precision, through one backend.

The choice is made in `plan_execution` and nowhere else:

    accelerator   precision         backend    why
    cuda          fp16 (or bf16)    compile    tensor cores; CUDA graphs over the padded sizes
    mps           fp16              eager
    cpu           bf16, if native   eager      2 × FP32 where AVX512-BF16 or AMX exists
    cpu           fp32              eager      FP16 on a CPU is five times slower than FP32
    cpu           bf16 or fp32      openvino   where asked for: half the CPU time of eager
    cpu           int8              eager      where asked for: linear layers, dynamically quantised
    cuda          fp16              tensorrt   where asked for

Compiled code has a few batch sizes: batches are padded to them, and each is run once before the
engine is ready, so that no request compiles anything. Eager code takes batches as they come. Tests
compare every path with FP32 eager.

Shapes: N windows, M mel bands, T frames, C classes, D features, L styles.
"""

from __future__ import annotations

import logging
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from acoustic.classify.backends import (
    ExecutionPlan,
    has_only_the_trunk_reduced,
    input_dtype,
    prepare,
)
from acoustic.classify.device_copies import DeviceCopies
from acoustic.classify.engine_config import EngineConfig
from acoustic.classify.normalise import Scaling
from acoustic.classify.style_head import StyleHead
from acoustic.classify.vit import VisionTransformer
from acoustic.errors import CheckpointError, ConfigError
from acoustic.resources import usable_cpus
from acoustic.types import WindowValues

logger = logging.getLogger(__name__)

Logits = npt.NDArray[np.float32]
Features = npt.NDArray[np.float32]

N_WINDOWS_OF_ONE_KERNEL = 4
"""On a CPU, the bf16 product of fewer windows is summed in another order (oneDNN, AMX)."""

MANY_TOKENS = 256
"""From this many tokens a window on, a CPU is busy with one: batches would only take memory."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WindowOutputs:
    """What a model says about windows; row n depends on window n only.

    Attributes:
        logits: (N, C) float32.
        features: (N, D) float32, pooled.
        music: (N,) float32 log-odds of music over any other sound; None if the model has none.
        styles: (N, L) float32 scores in [0, 1] of the model's own labels, of which the logits are a
            summary; None if its labels are the genres.
    """

    logits: Logits
    features: Features
    music: npt.NDArray[np.float32] | None = None
    styles: npt.NDArray[np.float32] | None = None


def plan_execution(config: EngineConfig) -> ExecutionPlan:
    """Resolve every "auto" for this machine.

    Args:
        config: the wanted accelerator, precision and backend.

    Raises:
        ConfigError: the accelerator is absent, or the precision is not supported efficiently on it.
    """
    device = _device(config.accelerator)
    precision: str = config.precision
    if precision == "auto":
        cpu_precision = "bf16" if cpu_has_bf16() else "fp32"
        precision = {"cuda": "fp16", "mps": "fp16", "cpu": cpu_precision}[device]
    if device == "cpu" and precision == "fp16":
        raise ConfigError("precision fp16 on a CPU is slower than fp32: choose auto, bf16 or fp32")
    backend: str = config.backend
    if backend == "auto":
        backend = "compile" if device == "cuda" else "eager"
    needed = {"openvino": "cpu", "tensorrt": "cuda"}.get(backend, device)
    if device != needed:
        raise ConfigError(f"backend {backend} runs on {needed}, not on {device}: choose auto")
    if precision == "int8" and (device, backend) != ("cpu", "eager"):
        raise ConfigError(f"precision int8 is for a CPU and eager, not {device} and {backend}")
    return ExecutionPlan(device=device, precision=precision, backend=backend)


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 natively (AVX512-BF16 or AMX)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def padded_sizes(batch_sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The batch sizes that a CPU may use in bf16, rising.

    Those below N_WINDOWS_OF_ONE_KERNEL are left out, where a larger one exists: an answer must not
    depend on how many windows happened to share its batch.
    """
    return tuple(size for size in batch_sizes if size >= N_WINDOWS_OF_ONE_KERNEL) or batch_sizes


def _device(accelerator: str) -> str:
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if accelerator == "auto":
        return next(name for name, present in available.items() if present)
    if not available[accelerator]:
        raise ConfigError(
            f"accelerator {accelerator!r} is not available on this machine: choose auto or cpu"
        )
    return accelerator


class Engine:
    """A model prepared for inference: windows → logits, pooled features, music or not.

    All work runs on threads that the engine owns. Eager code on a CPU has one for each core, and
    calls from several threads run beside each other. Anything else has one, on which calls queue
    up in order: CUDA graphs belong to the thread that captured them.

    Args:
        model: the network in evaluation mode; its weights are converted in place.
        scaling: conversion of windows to the model's input.
        input_shape: (M, T) of one window.
        config: accelerator, precision, backend and batch sizes.
        styles: summary of the model's own labels, None if its labels are the genres.

    Raises:
        ConfigError: the configuration does not fit this machine; see plan_execution.
    """

    def __init__(
        self,
        model: VisionTransformer,
        scaling: Scaling,
        input_shape: tuple[int, int],
        config: EngineConfig,
        styles: StyleHead | None = None,
    ) -> None:
        self.plan = plan_execution(config)
        self.config = config
        self.input_shape = input_shape
        self._scaling = scaling
        self._styles = styles
        self._window_dtype = np.float16 if scaling.kind == "absolute" else np.uint8
        largest = config.max_batch_bytes // (
            math.prod(input_shape) * np.dtype(self._window_dtype).itemsize
        )
        sizes = config.batch_sizes
        self._smallest = 1
        is_bf16 = self.plan.device == "cpu" and self.plan.precision == "bf16"
        if is_bf16 and not has_only_the_trunk_reduced(model, self.plan):
            sizes = padded_sizes(sizes)
            self._smallest = sizes[0]
        if self.plan.device == "cpu" and model.config.n_patches >= MANY_TOKENS:
            sizes, self._smallest = (1,), 1
        self._sizes = tuple(size for size in sizes if size <= largest) or sizes[:1]
        self._is_padded = self.plan.backend in ("compile", "tensorrt")
        self._dtype = input_dtype(model, self.plan)
        self._n_classes, self._width = model.config.n_classes, model.config.width
        self._copies = DeviceCopies(self.plan.device)
        self._threads = ThreadPoolExecutor(
            self.max_calls, thread_name_prefix="engine", initializer=self._begin_thread
        )
        self._threads.submit(self._prepare, model).result()
        logger.info(
            "engine ready device=%s precision=%s backend=%s batch_sizes=%s",
            self.plan.device, self.plan.precision, self.plan.backend, self._sizes,
        )  # fmt: skip

    @property
    def max_calls(self) -> int:
        """Largest number of model calls that run beside each other."""
        if (self.plan.device, self.plan.backend) != ("cpu", "eager"):
            return 1
        return max(1, usable_cpus() // self.config.n_threads)

    @property
    def max_batch(self) -> int:
        """Largest number of windows in one model call."""
        return self._sizes[-1]

    def logits(self, windows: WindowValues) -> Logits:
        """Logits of any number of windows.

        Args:
            windows: (N, M, T), N ≥ 1; see `outputs`.

        Returns:
            (N, C) float32, row n from window n alone.

        Raises:
            ValueError: another shape or dtype.
        """
        return self.outputs(windows).logits

    def outputs(self, windows: WindowValues) -> WindowOutputs:
        """Logits, pooled features and log-odds of music of any number of windows.

        Args:
            windows: (N, M, T), N ≥ 1, uint8; of a model of absolute levels float16.

        Raises:
            ValueError: there are no windows, or they have another shape or dtype.
        """
        dtype = np.dtype(self._window_dtype)
        if windows.dtype != dtype or windows.shape[1:] != self.input_shape or not len(windows):
            raise ValueError(
                f"windows are {windows.shape} {windows.dtype}, but the model takes "
                f"(N, {self.input_shape[0]}, {self.input_shape[1]}) {dtype}, N ≥ 1"
            )
        rows = self._threads.submit(self._rows, windows).result()
        ends = (self._n_classes, self._n_classes + self._width)
        logits, features, music = np.split(rows, ends, axis=1)
        if self._styles is not None:
            return WindowOutputs(
                logits=self._styles.genre_logits(logits),
                features=features,
                music=self._styles.music(logits),
                styles=self._styles.scores(logits),
            )
        return WindowOutputs(
            logits=logits, features=features, music=music[:, 0] if music.size else None
        )

    def close(self) -> None:
        """Stop the engine's threads, after the calls that are already queued."""
        self._threads.shutdown()

    def _begin_thread(self) -> None:
        if self.plan.device == "cpu":
            torch.set_num_threads(self.config.n_threads)  # a per-thread setting

    def _prepare(self, model: VisionTransformer) -> None:
        """Convert the model and run it once; a compiled one in every padded size.

        Compiled code is made per size, so no request may be the first of its size. Eager code is
        the same for all sizes, and warming up the large ones would cost a short command a second.
        """
        probe = self._scaling.apply(torch.from_numpy(self._probe()))
        self._model = prepare(model, self.plan, self.config, len(self._sizes), probe)
        sizes = self._sizes
        for size in sizes if self._is_padded else sizes[:1]:
            rows = self._run(np.zeros((size, *self.input_shape), self._window_dtype))
            if not np.isfinite(rows).all():
                raise CheckpointError(
                    f"the model's answer to {size} empty windows is not finite in "
                    f"{self.plan.precision} on {self.plan.device}"
                )

    def _probe(self) -> WindowValues:
        """Two windows of noise, as the model takes them."""
        rng = np.random.default_rng(0)
        shape = (2, *self.input_shape)
        if self._window_dtype == np.float16:
            return rng.normal(size=shape).astype(np.float16)
        return rng.integers(0, 256, shape).astype(np.uint8)

    def _rows(self, windows: WindowValues) -> Features:
        chunks = [
            windows[start : start + self.max_batch]
            for start in range(0, len(windows), self.max_batch)
        ]
        rows, batch = [], self._copy_ahead(chunks[0])
        for chunk, following in zip_longest(chunks, chunks[1:]):
            if batch is not None:
                batch = self._copies.finish(batch)
            # begun before the model runs, so that both happen at once
            ahead = None if following is None else self._copy_ahead(following)
            rows.append(self._run_or_halve(chunk, batch))
            batch = ahead
        return np.concatenate(rows)

    def _copy_ahead(self, windows: WindowValues) -> Tensor | None:
        """Begin to copy a padded batch; None if device memory does not suffice before its turn."""
        try:
            return self._copies.start(self._pad(windows))
        except torch.OutOfMemoryError:
            return None

    def _run_or_halve(self, windows: WindowValues, batch: Tensor | None = None) -> Features:
        """Run one padded batch; if device memory does not suffice, run its two halves instead.

        Args:
            windows: (N, M, T).
            batch: the same windows on the device, padded; None if they are not there.
        """
        try:
            return self._run(windows, batch)
        except torch.OutOfMemoryError:
            if len(windows) == 1:
                raise
            logger.warning("out of device memory, halving the batch n_windows=%d", len(windows))
        # after the except block: the exception would keep tensors of the failed call alive
        torch.cuda.empty_cache()
        middle = len(windows) // 2
        halves = (windows[:middle], windows[middle:])
        return np.concatenate([self._run_or_halve(half) for half in halves])

    @torch.inference_mode()
    def _run(self, windows: WindowValues, batch: Tensor | None = None) -> Features:
        if batch is None:
            batch = self._copies.finish(self._copies.start(self._pad(windows)))
        rows = self._model(
            self._scaling.apply(batch).to(self._dtype)
        )  # (padded N, C + D or C + D + 1)
        return rows[: len(windows)].float().cpu().numpy()

    def _pad(self, windows: WindowValues) -> WindowValues:
        if self._is_padded:
            size = next(size for size in self._sizes if size >= len(windows))
        else:
            size = max(len(windows), self._smallest)
        if size == len(windows):
            return windows
        padding = np.zeros((size - len(windows), *self.input_shape), windows.dtype)
        return np.concatenate([windows, padding])
