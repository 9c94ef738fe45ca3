"""CPU, memory and GPU use of a replica, as Prometheus series through Ray.

Ray reports the same per node; here it is per replica, so that a dashboard shows which stage uses
the most. The GPU is read through nvidia-ml-py (the extra gpu); without it, or without a GPU, the
GPU series are absent.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

import psutil
from ray.serve import metrics

logger = logging.getLogger(__name__)

INTERVAL_S = 5.0


class ResourceMetrics:
    """Samples this process every INTERVAL_S, until the process ends.

    Args:
        has_gpu: whether the model of this replica runs on a GPU.
    """

    def __init__(self, has_gpu: bool = False) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent()  # each call measures since the one before; this is the first
        self._cpus = metrics.Gauge("acousticsense_process_cpus", "Processor cores in use.")
        self._memory = metrics.Gauge("acousticsense_process_memory_bytes", "Resident memory.")
        self._gpu = _GpuSeries.open() if has_gpu else None
        threading.Thread(target=self._sample_forever, daemon=True, name="resources").start()

    def sample(self) -> None:
        """Read every value once and set its gauge."""
        self._cpus.set(self._process.cpu_percent() / 100)
        self._memory.set(self._process.memory_info().rss)
        if self._gpu is not None:
            self._gpu.sample()

    def _sample_forever(self) -> None:
        pause = threading.Event()
        while not pause.wait(INTERVAL_S):
            try:
                self.sample()
            except Exception as error:  # an edge: a failed reading must not end the replica
                logger.warning("resource sample failed error=%s", type(error).__name__)


class _GpuSeries:
    """Load and memory series of the first GPU that this process may use."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle
        self._busy = metrics.Gauge("acousticsense_gpu_busy_ratio", "Share of time with a kernel.")
        self._memory = metrics.Gauge("acousticsense_gpu_memory_bytes", "GPU memory in use.")

    @classmethod
    def open(cls) -> _GpuSeries | None:
        try:
            import pynvml
        except ImportError:
            logger.info("GPU series are off: they need the extra acousticsense[gpu]")
            return None
        try:
            pynvml.nvmlInit()
            return cls(pynvml, _visible_handle(pynvml))
        except pynvml.NVMLError as error:
            logger.warning("GPU series are off error=%s", error)
            return None

    def sample(self) -> None:
        self._busy.set(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100)
        self._memory.set(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)


def _visible_handle(nvml: Any) -> Any:
    """NVML handle of this replica's GPU.

    NVML counts all GPUs of the machine; Ray sets this replica's own in CUDA_VISIBLE_DEVICES, as an
    index or a UUID.
    """
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    if first.isdigit() or not first:
        return nvml.nvmlDeviceGetHandleByIndex(int(first or 0))
    return nvml.nvmlDeviceGetHandleByUUID(first)
