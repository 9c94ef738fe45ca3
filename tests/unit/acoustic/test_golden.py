"""The golden clip: what it lets pass, what it stops before a service answers."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.checkpoint import load_checkpoint
from acoustic.classify.classifier import Classifier
from acoustic.classify.engine import Engine
from acoustic.classify.engine_config import EngineConfig, Precision
from acoustic.digest import config_digest
from acoustic.errors import CheckpointError
from acoustic.golden import (
    EFFORT,
    GOLDEN_FILE,
    check_logits,
    check_windows,
    golden_clip,
    save_golden,
)
from acoustic.pipeline import write_golden
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from acoustic.types import WindowValues
from tests.support.models import tiny_model


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> CheckpointFolder:
    shutil.copytree(tiny_checkpoint, tmp_path / "model")
    return CheckpointFolder.open(tmp_path / "model")


def stages(folder: CheckpointFolder) -> tuple[Preprocessor, Engine]:
    return Preprocessor.from_folder(folder), Classifier.from_folder(folder).engine


def windows_of(preprocessor: Preprocessor) -> WindowValues:
    return preprocessor.process(golden_clip(), EFFORT).log_mel


def test_the_stages_that_wrote_it_pass(folder: CheckpointFolder) -> None:
    preprocessor, engine = stages(folder)
    check_windows(folder, windows_of(preprocessor))
    check_logits(folder, engine.logits)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize:UserWarning")
@pytest.mark.parametrize("precision", ["fp32", "int8", "bf16"])
def test_the_shipped_model_passes_in_every_precision(
    default_checkpoint: Path, precision: Precision
) -> None:
    folder = CheckpointFolder.open(default_checkpoint)
    check_windows(folder, windows_of(Preprocessor.from_folder(folder)))
    config = EngineConfig(accelerator="cpu", precision=precision)
    check_logits(folder, Classifier.from_folder(folder, config).engine.logits)


def test_other_weights_under_the_same_name_are_stopped(folder: CheckpointFolder) -> None:
    checkpoint = load_checkpoint(folder)
    with torch.no_grad():
        checkpoint.model.head.weight.copy_(tiny_model().head.weight.flip(0))
    shape = (folder.mel.n_mels, folder.mel.n_frames)
    engine = Engine(checkpoint.model, checkpoint.scaling, shape, EngineConfig())
    with pytest.raises(CheckpointError, match="a probability differs by 0"):
        check_logits(folder, engine.logits)


def test_another_front_end_is_stopped(folder: CheckpointFolder) -> None:
    for mel in (replace(folder.mel, f_min=300.0), replace(folder.mel, n_frames=100)):
        other = Preprocessor(PreprocessConfig(mel=mel))
        with pytest.raises(CheckpointError, match="other windows"):
            check_windows(folder, windows_of(other))


def test_windows_that_are_no_numbers_are_stopped(folder: CheckpointFolder) -> None:
    shape = (3, folder.mel.n_mels, folder.mel.n_frames)
    save_golden(folder, np.ones(shape, np.float16), np.zeros((3, 16), np.float32))
    with pytest.raises(CheckpointError, match="differ by nan"):
        check_windows(folder, np.full(shape, np.nan, np.float16))


def test_an_older_checkpoint_is_used_with_a_warning(
    folder: CheckpointFolder, caplog: pytest.LogCaptureFixture
) -> None:
    (folder.path / GOLDEN_FILE).unlink()
    preprocessor, engine = stages(folder)
    with caplog.at_level(logging.WARNING):
        check_windows(folder, windows_of(preprocessor))
        check_logits(folder, engine.logits)
    assert caplog.text.count("has no golden clip") == 2


def test_a_damaged_or_foreign_one_is_an_error(folder: CheckpointFolder) -> None:
    _, engine = stages(folder)
    path = folder.path / GOLDEN_FILE
    content = path.read_bytes()
    path.write_bytes(content[:100])
    with pytest.raises(CheckpointError, match="cannot be used"):
        check_logits(folder, engine.logits)
    stored = load(content)
    path.write_bytes(save(stored, metadata={"checkpoint_digest": config_digest("other")}))
    with pytest.raises(CheckpointError, match="run `acousticsense calibrate`"):
        check_logits(folder, engine.logits)
    write_golden(folder.path)
    check_logits(folder, engine.logits)


def test_it_holds_windows_and_no_sound(default_checkpoint: Path) -> None:
    stored = load((default_checkpoint / GOLDEN_FILE).read_bytes())
    assert set(stored) == {"windows", "logits"}
    assert np.isfinite(stored["logits"].numpy()).all()
