"""Stage 1 as a deployment: decodes on CPU replicas, small because no torch is imported."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.content_cache import CacheConfig
from acoustic.digest import config_digest
from acoustic.errors import InputError
from acoustic.golden import EFFORT, check_windows, golden_clip
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from acoustic.preprocess.ranged_file import FileParts, PartsError
from acoustic.preprocess.sandbox import Sandbox
from acoustic.preprocess.sandbox_child import SandboxConfig
from acoustic.request import Effort
from acoustic.resources import give_memory_back, peak_rss_mb
from acoustic.types import TrackFeatures
from deployments.stages.autoscaling import CPU_SHARE, CpuShare
from deployments.telemetry.logs import use_serve_logger
from deployments.telemetry.resources import ResourceMetrics

KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LANG")
"""Variables that a process that decodes may see; no other one reaches it, keys least of all."""

TRIMMED_BYTES = 8 << 20
"""After files from this size on, freed memory is given back to the system."""


class Preprocess:
    """Deployment that turns audio bytes into TrackFeatures.

    `__call__` is synchronous: Serve runs it in a thread.

    Args:
        checkpoint: checkpoint folder that defines the window geometry.
        config: settings of stage 1.
        cache: size limits of the feature cache.
        sandbox: limits of the processes that decode.
    """

    def __init__(
        self,
        checkpoint: Path,
        config: PreprocessConfig,
        cache: CacheConfig,
        sandbox: SandboxConfig,
    ) -> None:
        use_serve_logger()
        folder = CheckpointFolder.open(checkpoint)
        self._geometry_digest = config_digest(folder.mel)
        config = replace(config, mel=folder.mel)
        environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        elsewhere = Sandbox(config, sandbox, environment) if sandbox.enabled else None
        self._sandbox = elsewhere
        self._preprocessor = Preprocessor(config, cache, elsewhere=elsewhere)
        windows = self._preprocessor.process(golden_clip(), EFFORT).log_mel  # it is warm then, too
        if not config.enhance.is_on:
            check_windows(folder, windows)
        self._resources = ResourceMetrics()
        self._cpu_share = CpuShare()

    def __call__(
        self,
        data: bytes | npt.NDArray[np.uint8],
        effort: Effort,
        round_number: int = 0,
        content_blake3: str = "",
        parts: FileParts | None = None,
    ) -> TrackFeatures | InputError | PartsError:
        """Features of one file, or of one of its rounds with effort auto; or why there are none.

        Args:
            data: content of an audio file, or parts of it, one behind the other; (n,) uint8 where
                it came through the object store.
            effort: how many windows are evaluated.
            round_number: number of the round, from 0.
            content_blake3: digest of the content, "" if it is not known.
            parts: where the parts lie in the file; None if the content is all of it.
        """
        content = data if isinstance(data, bytes) else data.tobytes()
        try:
            if parts is None:
                found = self._preprocessor.process(content, effort, round_number, content_blake3)
            else:
                found = self._preprocessor.process_parts(content, parts, effort, round_number)
            return replace(found, geometry_digest=self._geometry_digest)
        except (InputError, PartsError) as error:
            return error  # as a value: see `calls`
        finally:
            if len(content) >= TRIMMED_BYTES:
                give_memory_back()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """CPU share, for the policy QueueAndCpu; Serve calls this to autoscale."""
        return {CPU_SHARE: self._cpu_share.since_last()}

    def facts(self) -> dict[str, object]:
        """Process id and peak memory in MiB of this replica, for /v1/stats and tests."""
        return {
            "pid": os.getpid(),
            "peak_rss_mb": round(peak_rss_mb(), 1),
            "torch_loaded": "torch" in sys.modules,
            "decoder_deaths": 0 if self._sandbox is None else self._sandbox.n_deaths,
        }
