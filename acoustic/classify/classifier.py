"""Stage 2 assembled: the windows of some tracks → their logits.

Shapes: S windows of one track, N windows in a batch, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from acoustic.classify.checkpoint import Checkpoint, load_checkpoint
from acoustic.classify.config import EngineConfig
from acoustic.classify.engine import Engine
from acoustic.profiling import StageTimer
from acoustic.types import FeatureSummary, ModelInfo, TrackFeatures, TrackLogits


class Classifier:
    """A checkpoint on a device, answering for whole tracks.

    Args:
        checkpoint: the model.
        config: where and how it runs.
    """

    def __init__(self, checkpoint: Checkpoint, config: EngineConfig) -> None:
        mel = checkpoint.manifest.mel
        self.manifest = checkpoint.manifest
        self.engine = Engine(
            checkpoint.model, checkpoint.scaling, (mel.n_mels, mel.n_frames), config
        )
        self.info = ModelInfo(
            name=self.manifest.name,
            version=self.manifest.version,
            digest=self.manifest.digest,
            device=self.engine.plan.device,
            precision=self.engine.plan.precision,
        )

    @classmethod
    def from_folder(cls, folder: Path, config: EngineConfig | None = None) -> Classifier:
        """Load a checkpoint folder.

        Raises:
            CheckpointError: the folder cannot be used.
            ConfigError: the configuration does not fit this machine.
        """
        return cls(load_checkpoint(folder), config or EngineConfig())

    def classify(self, tracks: Sequence[TrackFeatures]) -> list[TrackLogits]:
        """Logits of each track; windows of all tracks share the model's batches.

        Args:
            tracks: at least one.

        Returns:
            As many results in the same order; a track's numbers do not depend on the others.
        """
        timer = StageTimer()
        with timer.stage("inference"):
            rows = self.engine.logits(np.concatenate([track.log_mel for track in tracks]))
        ends = np.cumsum([track.n_windows for track in tracks])[:-1]
        return [
            TrackLogits(
                logits=logits,
                features=FeatureSummary.of(track),
                model=self.info,
                timings_ms={**track.timings_ms, **timer.timings_ms},
            )
            for track, logits in zip(tracks, np.split(rows, ends), strict=True)
        ]
