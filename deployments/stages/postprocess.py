"""Stage 3 as a deployment: turns logits into predictions; settings can change while it runs."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from ray.serve import metrics

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.errors import CheckpointError, ConfigError, InputError, ModelMismatchError
from acoustic.postprocess.postprocess_config import PostprocessConfig
from acoustic.postprocess.postprocessor import Postprocessor
from acoustic.postprocess.rounds import RoundResult, merge_rounds
from acoustic.preprocess.ranged_file import PartsError
from acoustic.request import RequestOptions
from acoustic.types import TrackLogits
from deployments.config import merge_config
from deployments.telemetry.logs import use_serve_logger
from deployments.telemetry.resources import ResourceMetrics

logger = logging.getLogger(__name__)


class Postprocess:
    """Deployment that turns TrackLogits into a Prediction.

    Args:
        checkpoint: checkpoint folder with the labels and the calibration.
        config: settings of the file, in force unless `user_config` overrides them.
    """

    def __init__(self, checkpoint: Path, config: PostprocessConfig) -> None:
        use_serve_logger()
        self._config = config
        self._postprocessor = Postprocessor.from_folder(CheckpointFolder.open(checkpoint), config)
        self._resources = ResourceMetrics()
        self._others: dict[str, Postprocessor] = {}
        self._rejected = ""
        self._is_rejected = metrics.Gauge(
            "acousticsense_settings_rejected",
            description="1 while the settings of user_config were refused and older ones are used.",
        )

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Apply new settings without a restart; Serve calls this at the start and on every change.

        Nothing is raised: Serve would end the replica, start another one with the same settings,
        and so on until there is none. What cannot be used is logged, the old settings stay, or
        those of the file in a new replica, and /v1/config and a metric say so.

        Args:
            user_config: fields of PostprocessConfig to override; {} restores the file's settings.
        """
        try:
            config = merge_config(self._config, user_config)
            self._postprocessor = self._postprocessor.with_config(config)
        except Exception as error:
            self._rejected = error.message if isinstance(error, ConfigError) else str(error)
            logger.error("postprocess settings rejected, the old ones stay: %s", self._rejected)
        else:
            self._rejected = ""
            self._others.clear()
            logger.info("postprocess settings changed keys=%s", sorted(user_config))
        self._is_rejected.set(bool(self._rejected))

    async def __call__(
        self, options: RequestOptions, *rounds: TrackLogits | InputError | PartsError
    ) -> RoundResult | InputError | PartsError:
        """Prediction of one track from its logits of one or more rounds.

        The error of the last round, if it has no logits.

        Raises:
            ModelMismatchError: the logits are of a model whose calibration cannot be read.
        """
        last = rounds[-1]
        if isinstance(last, (InputError, PartsError)):
            return last
        track = merge_rounds([each for each in rounds if isinstance(each, TrackLogits)])
        return self._stage_of(track).process_round(track, options)

    def _stage_of(self, track: TrackLogits) -> Postprocessor:
        """Stage 3 with the labels and the calibration of the model that made the logits.

        While one model replaces another, replicas of both are there, and each answer has to be by
        the calibration of its own model.
        """
        digest = track.model.digest
        if digest == self._postprocessor.calibration.checkpoint_digest:
            return self._postprocessor
        if digest not in self._others:
            self._others[digest] = self._opened(track.checkpoint, digest)
            logger.info("answers of another model too digest=%s", digest)
        return self._others[digest]

    def _opened(self, checkpoint: str, digest: str) -> Postprocessor:
        try:
            folder = CheckpointFolder.open(checkpoint)
            stage = Postprocessor.from_folder(folder, self._postprocessor.config)
        except (CheckpointError, ConfigError) as error:
            raise ModelMismatchError(f"logits of {digest}: {error.message}") from error
        if folder.digest != digest:
            raise ModelMismatchError(f"logits of {digest}, but {checkpoint} has {folder.digest}")
        return stage

    async def facts(self) -> dict[str, object]:
        """Process id of this replica, for /v1/stats and tests, and its settings."""
        return {
            "pid": os.getpid(),
            "settings_digest": self._postprocessor.digest,
            "settings_rejected": self._rejected,
        }

    async def settings(self) -> tuple[PostprocessConfig, str]:
        """The settings in force, and why newer ones were refused, "" if they were not."""
        return self._postprocessor.config, self._rejected
