"""Copies batches to the device, the next one while the model works on the current one.

Shapes: N windows, M mel bands, T frames.
"""

from __future__ import annotations

import torch
from torch import Tensor

from acoustic.types import WindowValues


class DeviceCopies:
    """Starts copies to a device, and hands each batch over once it may be read.

    On CUDA the copies run on a stream of their own: the GPU's copy unit works beside the model's
    kernels, where a copy on the model's stream would wait for them. On any other device a copy is
    complete when `start` returns.

    Args:
        device: "cuda", "mps" or "cpu".
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._stream = torch.cuda.Stream() if device == "cuda" else None  # type: ignore[no-untyped-call]

    def start(self, windows: WindowValues) -> Tensor:
        """Begin to copy windows (N, M, T); the result may be read only after `finish`."""
        batch = torch.from_numpy(windows)
        if self._stream is None:
            return batch.to(self._device)
        with torch.cuda.stream(self._stream):
            # only a copy from pinned memory is asynchronous
            return batch.pin_memory().to(self._device, non_blocking=True)

    def finish(self, batch: Tensor) -> Tensor:
        """The batch of `start`: whatever the current stream does from now on waits for its copy.

        It waits for all copies that have been started: start the next one afterwards.
        """
        if self._stream is not None:
            current = torch.cuda.current_stream()
            current.wait_stream(self._stream)
            # the allocator may not give the memory to another copy while this stream reads it
            batch.record_stream(current)
        return batch
