"""What a replica uses of its machine: CPU, memory and its GPU, as Prometheus series through Ray.

Ray tells the same of whole nodes; here it is per replica, so that a dashboard can say which stage
is the hungry one. The GPU is read through nvidia-ml-py (the extra gpu); without it, or without a
GPU, those series are absent.
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
        has_gpu: whether the model of this replica runs on one.
    """

    def __init__(self, has_gpu: bool = False) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call starts the clock
        self._cpus = metrics.Gauge("acousticsense_process_cpus", "Processor cores in use.")
        self._memory = metrics.Gauge("acousticsense_process_memory_bytes", "Resident memory.")
        self._gpu = _GpuSeries.open() if has_gpu else None
        threading.Thread(target=self._sample_forever, daemon=True, name="resources").start()

    def sample(self) -> None:
        """Set every gauge once."""
        self._cpus.set(self._process.cpu_percent() / 100)
        self._memory.set(self._process.memory_info().rss)
        if self._gpu is not None:
            self._gpu.sample()

    def _sample_forever(self) -> None:
        pause = threading.Event()
        while not pause.wait(INTERVAL_S):
            try:
                self.sample()
            except Exception as error:  # an edge: no reading is worth a replica
                logger.warning("no resource sample error=%s", type(error).__name__)


class _GpuSeries:
    """The first GPU that this process may use."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle
        self._busy = metrics.Gauge("acousticsense_gpu_busy_ratio", "Share of time with a kernel.")
        self._memory = metrics.Gauge("acousticsense_gpu_memory_bytes", "Memory in use.")

    @classmethod
    def open(cls) -> _GpuSeries | None:
        try:
            import pynvml
        except ImportError:
            logger.info("no GPU series: they need the extra acousticsense[gpu]")
            return None
        try:
            pynvml.nvmlInit()
            return cls(pynvml, _visible_handle(pynvml))
        except pynvml.NVMLError as error:
            logger.warning("no GPU series error=%s", error)
            return None

    def sample(self) -> None:
        self._busy.set(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100)
        self._memory.set(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)


def _visible_handle(nvml: Any) -> Any:
    """NVML counts all GPUs of the machine; Ray names this replica's in the environment."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    if first.isdigit() or not first:
        return nvml.nvmlDeviceGetHandleByIndex(int(first or 0))
    return nvml.nvmlDeviceGetHandleByUUID(first)
