"""Live settings of stage 3: wrong ones never end a replica that answers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from acoustic.errors import ConfigError
from acoustic.postprocess.postprocess_config import PostprocessConfig
from deployments.stages.postprocess import Postprocess

WRONG: list[dict[str, Any]] = [
    {"review": {"min_confidnce": 0.9}},
    {"review": {"min_confidence": 1.9}},
    {"coverage": 2},
    {"review": 3},
]


@pytest.fixture
def stage(tiny_checkpoint: Path) -> Postprocess:
    return Postprocess(tiny_checkpoint, PostprocessConfig())


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_settings_are_logged_and_the_old_ones_stay(
    stage: Postprocess, wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    stage.reconfigure({"review": {"min_confidence": 0.9}})
    before = stage._postprocessor
    with caplog.at_level(logging.ERROR):
        stage.reconfigure(wrong)
    assert stage._postprocessor is before
    assert "rejected, the old ones stay: user_config" in caplog.text
    stage.reconfigure({"review": {"min_confidence": 0.8}})
    assert stage._postprocessor.config.review.min_confidence == 0.8


@pytest.mark.parametrize("wrong", WRONG)
def test_a_replica_does_not_start_with_wrong_settings(
    stage: Postprocess, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError):
        stage.reconfigure(wrong)


def test_no_keys_restore_the_settings_of_the_file(stage: Postprocess) -> None:
    stage.reconfigure({"review": {"min_confidence": 0.9}})
    stage.reconfigure({})
    assert stage._postprocessor.config == PostprocessConfig()
