"""Stage 3 with a fixed temperature in place of the fitted ones; settings that are refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.errors import InvalidOptionError
from acoustic.postprocess.calibration import softmax
from acoustic.postprocess.postprocess_config import PostprocessConfig
from acoustic.postprocess.postprocessor import Postprocessor
from acoustic.request import RequestOptions
from tests.support.tracks import track_logits

LOGITS = np.random.default_rng(0).normal(0, 3, (3, 16)).astype(np.float32)
TRACK = track_logits(LOGITS)


@pytest.fixture(scope="module")
def fitted(default_checkpoint: Path) -> Postprocessor:
    return Postprocessor.from_folder(CheckpointFolder.open(default_checkpoint))


@pytest.mark.parametrize("temperature", [1.0, 1.3, 1.5])
def test_the_logits_are_divided_by_it(fitted: Postprocessor, temperature: float) -> None:
    answer = fitted.with_config(PostprocessConfig(temperature=temperature)).process(TRACK)
    expected = softmax(LOGITS / temperature).mean(axis=0)
    assert answer.confidence == pytest.approx(expected.max())
    assert answer.model.temperature == temperature


def test_what_holds_for_the_fitted_ones_only_is_left_out(fitted: Postprocessor) -> None:
    stage = fitted.with_config(PostprocessConfig(temperature=1.3))
    assert fitted.process(TRACK).prediction_set is not None
    assert stage.process(TRACK).prediction_set is None
    with pytest.raises(InvalidOptionError, match=r"0.9 is not supported: .* fixed at 1\.3"):
        stage.process(TRACK, RequestOptions(coverage=0.9))
    assert all(each.review_threshold is None for each in stage.calibration.windows.values())


def test_null_returns_to_the_fitted_ones(fitted: Postprocessor) -> None:
    fixed = fitted.with_config(PostprocessConfig(temperature=1.3))
    again = fixed.with_config(PostprocessConfig())
    assert again.calibration == fitted.calibration
    assert again.process(TRACK).config_digest == fitted.process(TRACK).config_digest
    assert fixed.process(TRACK).config_digest != fitted.process(TRACK).config_digest


@pytest.mark.parametrize(
    "bad",
    [
        *({"temperature": value} for value in (0.0, -1.0, math.nan, math.inf)),
        {"aggregation": "median"},
        {"set_method": "all"},
        {"coverage": 0.995},
        {"auto_margin": 1.1},
    ],
)
def test_settings_that_cannot_work_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        PostprocessConfig(**bad)
