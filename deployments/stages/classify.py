"""Stage 2 as a deployment: runs the model on its device, in batches across requests."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ray import serve

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.classifier import Classifier
from acoustic.classify.engine_config import EngineConfig
from acoustic.digest import config_digest
from acoustic.errors import (
    AcousticError,
    ClassificationError,
    InputError,
    ModelMismatchError,
)
from acoustic.golden import check_logits
from acoustic.preprocess.ranged_file import PartsError
from acoustic.types import TrackFeatures, TrackLogits
from deployments.stages.autoscaling import WINDOWS
from deployments.stages.coalescer import Coalescer
from deployments.telemetry.batches import BatchMetrics
from deployments.telemetry.logs import use_serve_logger
from deployments.telemetry.resources import ResourceMetrics

MAX_CONCURRENT_BATCHES = 1000
"""Practically no limit: `@serve.batch` only collects, the coalescer forms the batches."""


def count_windows(tracks: Sequence[TrackFeatures]) -> int:
    """Size of a batch in windows, the unit of the model's batch sizes."""
    return sum(track.n_windows for track in tracks)


class Classify:
    """Deployment that turns TrackFeatures into TrackLogits.

    Args:
        checkpoint: checkpoint folder of the model.
        config: device, precision, backend and batch sizes.
    """

    def __init__(self, checkpoint: Path, config: EngineConfig) -> None:
        use_serve_logger()
        folder = CheckpointFolder.open(checkpoint)
        self._checkpoint, self._geometry_digest = str(checkpoint), config_digest(folder.mel)
        self._classifier = Classifier.from_folder(folder, config)
        check_logits(folder, self._classifier.engine.logits)
        self._coalescer: Coalescer[TrackFeatures, TrackLogits] = Coalescer(
            self._classifier.classify,
            lambda track: track.n_windows,
            # one track at a time where the model takes one window at a time: a call of more would
            # only keep the first answers waiting for the last
            self._classifier.engine.max_batch,
            BatchMetrics().count,
        )
        self._resources = ResourceMetrics(self._classifier.engine.plan.device.startswith("cuda"))
        # the decorator ran before the config was known; Serve rejects a track above this size
        self._collect.set_max_batch_size(config.batch_sizes[-1])

    async def __call__(
        self, features: TrackFeatures | InputError | PartsError
    ) -> TrackLogits | InputError | PartsError:
        """Logits of one track; or why stage 1 has no windows of it.

        Raises:
            ModelMismatchError: the windows are for another model.
            ClassificationError: the model failed on this track, even when it ran alone.
        """
        if isinstance(features, (InputError, PartsError)):
            return features
        if features.geometry_digest != self._geometry_digest:
            raise ModelMismatchError(
                f"windows of geometry {features.geometry_digest} met a model for "
                f"{self._geometry_digest}"
            )
        try:
            result: TrackLogits | Exception = await self._collect(features)
        except asyncio.CancelledError:
            self._coalescer.drop(features)
            raise
        if isinstance(result, AcousticError):
            raise result
        if isinstance(result, Exception):
            raise ClassificationError("the model failed on this track") from result
        return replace(result, checkpoint=self._checkpoint)

    # Serve forms the next batch before the previous one has finished, so under load its batches
    # shrink when they should grow. Measured with a model of 40 ms + 2.5 ms per item at 150
    # requests/s: p50 6.4 s with batches of 2.1; through the coalescer 0.12 s with batches of 9.8.
    # So Serve hands over at once (no wait, no bound on concurrent batches) and the coalescer
    # forms the batches.
    @serve.batch(
        max_batch_size=1,
        batch_wait_timeout_s=0.0,
        max_concurrent_batches=MAX_CONCURRENT_BATCHES,
        batch_size_fn=count_windows,
    )
    async def _collect(self, tracks: list[TrackFeatures]) -> list[TrackLogits | Exception]:
        return await self._coalescer.submit(tracks)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Windows in flight, for the policy WindowsInFlight; Serve calls this to autoscale."""
        return {WINDOWS: float(self._coalescer.size_in_flight)}

    async def facts(self) -> dict[str, object]:
        """Process, device and batch counts of this replica, for /v1/stats and tests."""
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
