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
from acoustic.classify.neighbours import Neighbours, load_neighbours
from acoustic.profiling import StageTimer
from acoustic.types import FeatureSummary, ModelInfo, TrackFeatures, TrackLogits


class Classifier:
    """A checkpoint on a device, answering for whole tracks.

    Args:
        checkpoint: the model.
        config: where and how it runs.
        neighbours: features of training windows, None for no distances.
    """

    def __init__(
        self, checkpoint: Checkpoint, config: EngineConfig, neighbours: Neighbours | None = None
    ) -> None:
        mel = checkpoint.manifest.mel
        self.manifest = checkpoint.manifest
        self._neighbours = neighbours
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
        checkpoint = load_checkpoint(folder)
        neighbours = load_neighbours(folder, checkpoint.manifest.digest)
        return cls(checkpoint, config or EngineConfig(), neighbours)

    def classify(self, tracks: Sequence[TrackFeatures]) -> list[TrackLogits]:
        """Logits of each track; windows of all tracks share the model's batches.

        Args:
            tracks: at least one.

        Returns:
            As many results in the same order; a track's numbers do not depend on the others.

        Raises:
            ValueError: a logit is not finite.
        """
        timer = StageTimer()
        with timer.stage("inference"):
            rows, features = self.engine.answers(
                np.concatenate([track.log_mel for track in tracks])
            )
        if not np.isfinite(rows).all():  # whoever calls splits the batch until the track is found
            raise ValueError("the model gave logits that are not finite")
        ends = np.cumsum([track.n_windows for track in tracks])[:-1]
        distances: list[float | None] = [None] * len(tracks)
        if self._neighbours is not None:
            with timer.stage("neighbours"):
                found = self._neighbours.distances(features)
                distances = [float(each.mean()) for each in np.split(found, ends)]
        return [
            TrackLogits(
                logits=logits,
                distance=distance,
                features=FeatureSummary.of(track),
                model=self.info,
                timings_ms={**track.timings_ms, **timer.timings_ms},
            )
            for track, logits, distance in zip(tracks, np.split(rows, ends), distances, strict=True)
        ]
