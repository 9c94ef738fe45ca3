"""Stage 1 as a deployment: CPU replicas, small because no torch is imported."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from acoustic.preprocess.cache import CacheConfig
from acoustic.preprocess.example import example_wav
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from acoustic.types import Effort, TrackFeatures
from deployments.logs import join_serve_log
from deployments.resource_metrics import ResourceMetrics
from deployments.scaling import CPU_SHARE, CpuShare


class Preprocess:
    """Audio bytes to TrackFeatures. `__call__` is synchronous: Serve runs it in a thread.

    Args:
        checkpoint: folder whose geometry is used.
        config: settings of stage 1.
        cache: bounds of the feature cache.
    """

    def __init__(self, checkpoint: Path, config: PreprocessConfig, cache: CacheConfig) -> None:
        join_serve_log()
        Preprocessor.from_folder(checkpoint, config).process(example_wav(), "fast")
        self._preprocessor = Preprocessor.from_folder(checkpoint, config, cache)
        self._resources = ResourceMetrics()
        self._cpu_share = CpuShare()

    def __call__(self, data: bytes, effort: Effort, part: int = 0) -> TrackFeatures:
        """Features of one file, or of one round of effort auto; raises InputError."""
        return self._preprocessor.process(data, effort, part)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Serve where this deployment scales by itself."""
        return {CPU_SHARE: self._cpu_share.since_last()}

    def facts(self) -> dict[str, object]:
        """For /v1/stats and tests: the process and its peak memory."""
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {
            "pid": os.getpid(),
            "peak_rss_mb": round(peak_kib / 1024, 1),
            "torch_loaded": "torch" in sys.modules,
        }
