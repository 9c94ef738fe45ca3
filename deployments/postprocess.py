"""Stage 3 as a deployment: thresholds can change while it runs."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from acoustic.errors import ConfigError
from acoustic.postprocess.postprocessor import PostprocessConfig, Postprocessor
from acoustic.postprocess.rounds import merge_rounds
from acoustic.prediction import Prediction
from acoustic.types import TrackLogits
from deployments.config import parse_strict
from deployments.logs import join_serve_log
from deployments.options import Options
from deployments.resource_metrics import ResourceMetrics

logger = logging.getLogger(__name__)


class Postprocess:
    """TrackLogits to Prediction.

    Args:
        checkpoint: folder of the labels and the calibration.
        config: settings until `user_config` says otherwise.
    """

    def __init__(self, checkpoint: Path, config: PostprocessConfig) -> None:
        join_serve_log()
        self._checkpoint = checkpoint
        self._config = config
        self._postprocessor = Postprocessor.from_folder(checkpoint, config)
        self._resources = ResourceMetrics()

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take over new settings without a restart; Serve calls this on every change.

        Args:
            user_config: fields of PostprocessConfig; {} goes back to the file's settings.

        Raises:
            ConfigError: an unknown field or a value out of range; the old settings stay.
        """
        config = merge_config(self._config, user_config)
        self._postprocessor = Postprocessor.from_folder(self._checkpoint, config)
        logger.info("postprocess settings changed keys=%s", sorted(user_config))

    async def __call__(self, options: Options, *rounds: TrackLogits) -> Prediction:
        """Prediction of one track, heard in one or more rounds."""
        return self._postprocessor.process(
            merge_rounds(rounds),
            file=options.file,
            top_k=options.top_k,
            timeline=options.timeline,
            coverage=options.coverage,
        )

    async def facts(self) -> dict[str, object]:
        """For /v1/stats and tests."""
        return {"pid": os.getpid()}


def merge_config(base: PostprocessConfig, changes: dict[str, Any]) -> PostprocessConfig:
    """The base with some fields, nested ones included, replaced.

    Raises:
        ConfigError: an unknown field or a value out of range.
    """
    merged: dict[str, Any] = asdict(base)
    for key, value in changes.items():
        if isinstance(merged.get(key), dict):
            if not isinstance(value, dict):
                raise ConfigError(f"user_config: {key} is no mapping")
            merged[key] = {**merged[key], **value}
        else:
            merged[key] = value
    return parse_strict(PostprocessConfig, merged, "user_config")
