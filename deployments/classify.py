"""Stage 2 as a deployment: the model on its device, batches across requests."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ray import serve

from acoustic.classify.classifier import Classifier
from acoustic.classify.config import EngineConfig
from acoustic.errors import AcousticError, ClassificationError
from acoustic.types import TrackFeatures, TrackLogits
from deployments.batch_metrics import BatchMetrics
from deployments.coalescer import Coalescer
from deployments.logs import join_serve_log
from deployments.resource_metrics import ResourceMetrics
from deployments.scaling import WINDOWS

MAX_CONCURRENT_BATCHES = 1000
"""`@serve.batch` only collects; the coalescer decides what runs together."""


def count_windows(tracks: Sequence[TrackFeatures]) -> int:
    """Size of a batch as the model sees it: windows, not tracks."""
    return sum(track.n_windows for track in tracks)


class Classify:
    """TrackFeatures to TrackLogits.

    Args:
        checkpoint: folder of the model.
        config: device, precision, backend and batch sizes.
    """

    def __init__(self, checkpoint: Path, config: EngineConfig) -> None:
        join_serve_log()
        self._classifier = Classifier.from_folder(checkpoint, config)
        self._coalescer: Coalescer[TrackFeatures, TrackLogits] = Coalescer(
            self._classifier.classify,
            lambda track: track.n_windows,
            config.batch_sizes[-1],
            BatchMetrics().count,
        )
        self._resources = ResourceMetrics(self._classifier.engine.plan.device.startswith("cuda"))
        self._collect.set_max_batch_size(config.batch_sizes[-1])

    async def __call__(self, features: TrackFeatures) -> TrackLogits:
        """Logits of one track.

        Raises:
            ClassificationError: the model failed on this track, also without its batch-mates.
        """
        result: TrackLogits | Exception = await self._collect(features)
        if isinstance(result, AcousticError):
            raise result
        if isinstance(result, Exception):
            raise ClassificationError("the model failed on this track") from result
        return result

    @serve.batch(
        max_batch_size=1,
        batch_wait_timeout_s=0.0,
        max_concurrent_batches=MAX_CONCURRENT_BATCHES,
        batch_size_fn=count_windows,
    )
    async def _collect(self, tracks: list[TrackFeatures]) -> list[TrackLogits | Exception]:
        return await self._coalescer.submit(tracks)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Serve where this deployment scales by itself."""
        return {WINDOWS: float(self._coalescer.size_in_flight)}

    async def facts(self) -> dict[str, object]:
        """For /v1/stats and tests: the process, the device and the batches so far."""
        plan, coalescer = self._classifier.engine.plan, self._coalescer
        return {
            "pid": os.getpid(),
            "device": plan.device,
            "precision": plan.precision,
            "backend": plan.backend,
            "batches": coalescer.n_batches,
            "tracks": coalescer.n_items,
            "largest_batch_tracks": coalescer.largest_batch,
        }
