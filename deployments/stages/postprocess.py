"""Stage 3 as a deployment: turns logits into predictions; settings can change while it runs."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.errors import ConfigError
from acoustic.postprocess.postprocess_config import PostprocessConfig
from acoustic.postprocess.postprocessor import Postprocessor
from acoustic.postprocess.rounds import RoundResult, merge_rounds
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
        self._is_configured = False

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Apply new settings without a restart; Serve calls this at the start and on every change.

        An unknown field or a value out of range is logged and the old settings stay: Serve would
        answer an exception by ending the replica, and with it the service.

        Args:
            user_config: fields of PostprocessConfig to override; {} restores the file's settings.

        Raises:
            ConfigError: the settings that the replica starts with are wrong.
        """
        try:
            config = merge_config(self._config, user_config)
        except ConfigError as error:
            if not self._is_configured:
                raise
            logger.error("postprocess settings rejected, the old ones stay: %s", error.message)
            return
        self._is_configured = True
        self._postprocessor = self._postprocessor.with_config(config)
        logger.info("postprocess settings changed keys=%s", sorted(user_config))

    async def __call__(self, options: RequestOptions, *rounds: TrackLogits) -> RoundResult:
        """Prediction of one track from its logits of one or more rounds."""
        return self._postprocessor.process_round(merge_rounds(rounds), options)

    async def facts(self) -> dict[str, object]:
        """Process id of this replica, for /v1/stats and tests, and the digest of its settings."""
        return {"pid": os.getpid(), "settings_digest": self._postprocessor.digest}
