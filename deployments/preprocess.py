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


class Preprocess:
    """Audio bytes to TrackFeatures. `__call__` is synchronous: Serve runs it in a thread.

    Args:
        checkpoint: folder whose geometry is used.
        config: settings of stage 1.
        cache: bounds of the feature cache.
    """

    def __init__(self, checkpoint: Path, config: PreprocessConfig, cache: CacheConfig) -> None:
        Preprocessor.from_folder(checkpoint, config).process(example_wav(), "fast")
        self._preprocessor = Preprocessor.from_folder(checkpoint, config, cache)

    def __call__(self, data: bytes, effort: Effort, part: int = 0) -> TrackFeatures:
        """Features of one file, or of one round of effort auto; raises InputError."""
        return self._preprocessor.process(data, effort, part)

    def facts(self) -> dict[str, object]:
        """For /v1/stats and tests: the process and its peak memory."""
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {
            "pid": os.getpid(),
            "peak_rss_mb": round(peak_kib / 1024, 1),
            "torch_loaded": "torch" in sys.modules,
        }
