"""Live settings of stage 3: wrong ones never end a replica that answers."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.errors import InputError, ModelMismatchError, SilentAudioError
from acoustic.postprocess.postprocess_config import PostprocessConfig
from acoustic.postprocess.postprocessor import Postprocessor
from acoustic.request import RequestOptions
from acoustic.types import TrackLogits
from deployments.stages.postprocess import Postprocess
from tests.support.tracks import track_logits

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
def test_a_replica_that_starts_with_wrong_settings_uses_those_of_the_file_and_says_so(
    stage: Postprocess, wrong: dict[str, Any]
) -> None:
    stage.reconfigure(wrong)
    config, rejected = asyncio.run(stage.settings())
    assert config == PostprocessConfig()
    assert rejected.startswith("user_config")
    assert asyncio.run(stage.facts())["settings_rejected"] == rejected
    stage.reconfigure({"coverage": 0.8})
    config, rejected = asyncio.run(stage.settings())
    assert (config.coverage, rejected) == (0.8, "")


def logits_of(stage: Postprocess, digest: str) -> TrackLogits:
    track = track_logits(np.zeros((3, 16), np.float32))
    return replace(track, model=replace(track.model, digest=digest))


def test_logits_of_another_model_are_refused(stage: Postprocess) -> None:
    own = stage._postprocessor.calibration.checkpoint_digest
    options = RequestOptions()
    assert not isinstance(asyncio.run(stage(options, logits_of(stage, own))), InputError)
    for rounds in ([logits_of(stage, "b")], [logits_of(stage, own), logits_of(stage, "b")]):
        with pytest.raises(ModelMismatchError):
            asyncio.run(stage(options, *rounds))


def test_logits_of_the_model_before_are_answered_by_its_own_calibration(
    stage: Postprocess, default_checkpoint: Path
) -> None:
    folder = CheckpointFolder.open(default_checkpoint)
    stage.reconfigure({"coverage": 0.8})
    track = replace(logits_of(stage, folder.digest), checkpoint=str(default_checkpoint))
    track = replace(track, logits=np.linspace(-3, 3, 48, dtype=np.float32).reshape(3, 16))
    found = asyncio.run(stage(RequestOptions(), track))
    config = PostprocessConfig(coverage=0.8)
    expected = Postprocessor.from_folder(folder, config).process_round(track, RequestOptions())
    assert not isinstance(found, InputError)
    found = replace(found, prediction=replace(found.prediction, timings_ms={}))
    expected = replace(expected, prediction=replace(expected.prediction, timings_ms={}))
    assert found == expected
    assert found.prediction.model.digest == folder.digest
    with pytest.raises(ModelMismatchError, match="but"):
        asyncio.run(stage(RequestOptions(), replace(track, model=replace(track.model, digest="x"))))


def test_the_error_of_a_stage_before_is_passed_on(stage: Postprocess) -> None:
    silent = SilentAudioError("silence")
    own = logits_of(stage, stage._postprocessor.calibration.checkpoint_digest)
    assert asyncio.run(stage(RequestOptions(), silent)) is silent
    assert asyncio.run(stage(RequestOptions(), own, silent)) is silent


def test_no_keys_restore_the_settings_of_the_file(stage: Postprocess) -> None:
    stage.reconfigure({"review": {"min_confidence": 0.9}})
    stage.reconfigure({})
    assert stage._postprocessor.config == PostprocessConfig()
