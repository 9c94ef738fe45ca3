"""Stage 2, classification: log-mel windows of several tracks → logits of each track.

Shapes: S windows of one track, N windows in a batch, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.checkpoint import Checkpoint, load_checkpoint
from acoustic.classify.engine import Engine
from acoustic.classify.engine_config import EngineConfig
from acoustic.classify.neighbours import Neighbours, load_neighbours
from acoustic.profiling import StageTimer
from acoustic.types import ModelInfo, TrackFeatures, TrackLogits


class Classifier:
    """Evaluates the windows of whole tracks with one checkpoint on one device.

    Args:
        checkpoint: the loaded model with its manifest and scaling.
        config: accelerator, precision, backend and batch sizes.
        neighbours: features of training windows; None to report no distances.
    """

    def __init__(
        self, checkpoint: Checkpoint, config: EngineConfig, neighbours: Neighbours | None = None
    ) -> None:
        mel = checkpoint.manifest.mel
        self.manifest = checkpoint.manifest
        self._neighbours = neighbours
        self.engine = Engine(
            checkpoint.model,
            checkpoint.scaling,
            (mel.n_mels, mel.n_frames),
            config,
            checkpoint.styles,
        )
        self.info = ModelInfo(
            name=self.manifest.name,
            version=self.manifest.version,
            digest=self.manifest.digest,
            device=self.engine.plan.device,
            precision=self.engine.plan.precision,
        )

    @classmethod
    def from_folder(
        cls, folder: CheckpointFolder, config: EngineConfig | None = None
    ) -> Classifier:
        """Load a classifier from a checkpoint folder.

        Args:
            folder: the checkpoint folder.
            config: settings of the engine; None for the defaults.

        Raises:
            CheckpointError: the folder cannot be used.
            ConfigError: the configuration does not fit this machine.
        """
        checkpoint = load_checkpoint(folder)
        neighbours = load_neighbours(folder)
        return cls(checkpoint, config or EngineConfig(), neighbours)

    def classify(self, tracks: Sequence[TrackFeatures]) -> list[TrackLogits]:
        """Logits of each track; windows of all tracks share the model's batches.

        Args:
            tracks: log-mel windows of at least one track.

        Returns:
            One result per track, in the same order; each depends on its own track only.

        Raises:
            ValueError: a logit is not finite.
        """
        timer = StageTimer()
        with timer.stage("inference"):
            found = self.engine.outputs(np.concatenate([track.log_mel for track in tracks]))
        if not np.isfinite(found.logits).all():  # the caller bisects the batch to isolate the track
            raise ValueError("the model returned logits that are not finite")
        # rows of all tracks lie one after another: split where each track but the last ends
        ends = np.cumsum([track.n_windows for track in tracks])[:-1]
        unknown: list[float | None] = [None] * len(tracks)
        distances, music = unknown, unknown
        if found.music is not None:
            music = [float(each.mean()) for each in np.split(found.music, ends)]
        styles: list[npt.NDArray[np.float32] | None] = [None] * len(tracks)
        if found.styles is not None:
            styles = [each.mean(axis=0) for each in np.split(found.styles, ends)]
        if self._neighbours is not None:
            with timer.stage("neighbours"):
                of_windows = self._neighbours.distances(found.features)
                distances = [float(each.mean()) for each in np.split(of_windows, ends)]
        return [
            TrackLogits(
                logits=logits,
                distance=distance,
                music=log_odds,
                styles=scores,
                facts=track.facts,
                model=self.info,
                timings_ms={**track.timings_ms, **timer.timings_ms},
            )
            for track, logits, distance, log_odds, scores in zip(
                tracks, np.split(found.logits, ends), distances, music, styles, strict=True
            )
        ]
