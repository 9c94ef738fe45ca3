"""Whole training runs: what they write, how they resume, what they refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.checkpoint_folder import TRAINING_FILE, CheckpointFolder
from acoustic.classify.checkpoint import load_checkpoint
from acoustic.classify.vit_config import VARIANTS
from acoustic.data.dataset import Dataset
from acoustic.data.groups import refuse_trained_on, trained_groups
from acoustic.data.outliers import Outlier
from acoustic.errors import ConfigError
from acoustic.geometry import MelConfig
from acoustic.labels import GENRES, Label, LabelSet
from acoustic.training.job import Job, train_checkpoint
from acoustic.training.optimiser import OptimiserConfig
from acoustic.training.watch import STATE_FILE, Report
from tests.support.models import TINY
from tests.support.training import MADE, RECIPE, three_genres


def job(out: Path, **changes: object) -> Job:
    fields = {
        "out": out, "name": "made", "version": "1", "variant": "tiny", "mel": MelConfig(),
        "start_from": None, "recipe": replace(RECIPE, n_crops=240), "device": "cpu",
    }  # fmt: skip
    return Job(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _tiny_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VARIANTS, "tiny", TINY)


def dataset(labels: LabelSet = MADE) -> Dataset:
    clips = [*three_genres(), *three_genres("valid", 50, 2)]
    return Dataset(labels=labels, clips=clips, skipped=[])


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_a_run_writes_a_checkpoint_and_its_facts(tmp_path: Path) -> None:
    reports: list[Report] = []
    outlier = Outlier(
        waveform=np.zeros(1, np.float32), log_mel=np.zeros((128, 150), np.uint8), kind="speech"
    )
    train_checkpoint(dataset(), [outlier], job(tmp_path), reports.append)
    loaded = load_checkpoint(CheckpointFolder.open(tmp_path))
    facts = json.loads((tmp_path / TRAINING_FILE).read_text())
    assert loaded.manifest.labels.names == MADE.names
    assert facts["clips"]["Beats"] == {"made": 6}
    assert (facts["n_valid"], facts["n_outliers"]) == (6, 1)
    assert 2 <= len(facts["history"]) == len(reports) <= 10  # validations that fit the time budget
    assert reports[-1].progress == 1.0
    assert reports[-1].accuracy is not None
    assert reports[-1].loss < reports[0].loss
    assert not (tmp_path / STATE_FILE).exists()


def test_one_seed_is_one_result_also_when_interrupted(tmp_path: Path) -> None:
    train_checkpoint(dataset(), [], job(tmp_path / "straight"))

    def stop_half_way(report: Report) -> None:
        if report.progress > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_checkpoint(dataset(), [], job(tmp_path / "halting"), stop_half_way)
    train_checkpoint(dataset(), [], job(tmp_path / "halting", resume=True))
    assert weights(tmp_path / "halting") == weights(tmp_path / "straight")
    other = job(tmp_path / "other", recipe=replace(RECIPE, n_crops=240, seed=5))
    train_checkpoint(dataset(), [], other)
    assert weights(tmp_path / "other") != weights(tmp_path / "straight")


def test_a_state_of_another_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no training_state\.pt"):
        train_checkpoint(dataset(), [], job(tmp_path, resume=True))

    def stop(report: Report) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_checkpoint(
            dataset(), [], job(tmp_path), lambda r: stop(r) if r.progress > 0.2 else None
        )
    with pytest.raises(ConfigError, match="other settings"):
        train_checkpoint(dataset(), [], job(tmp_path, recipe=RECIPE, resume=True))
    first, *others = dataset().clips
    relabelled = replace(dataset(), clips=(replace(first, label=(first.label + 1) % 3), *others))
    with pytest.raises(ConfigError, match="on other data"):
        train_checkpoint(relabelled, [], job(tmp_path, resume=True))
    (tmp_path / STATE_FILE).write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="cannot be resumed"):
        train_checkpoint(dataset(), [], job(tmp_path, resume=True))


def test_fine_tuning_starts_from_the_known_weights(tmp_path: Path) -> None:
    train_checkpoint(dataset(), [], job(tmp_path / "first"))
    known = load_checkpoint(CheckpointFolder.open(tmp_path / "first"))
    still = replace(
        RECIPE, n_crops=24, optimiser=OptimiserConfig(matrix_rate=1e-9, learning_rate=1e-9)
    )
    same = job(tmp_path / "same", start_from=known, recipe=still)
    train_checkpoint(dataset(), [], same)
    other_labels = LabelSet([*MADE.labels[:2], Label(name="Noise")])
    known = load_checkpoint(CheckpointFolder.open(tmp_path / "first"))
    changed = job(tmp_path / "changed", start_from=known, recipe=still)
    train_checkpoint(dataset(other_labels), [], changed)
    state = load_checkpoint(CheckpointFolder.open(tmp_path / "first")).model.state_dict()
    tuned = load_checkpoint(CheckpointFolder.open(tmp_path / "same")).model.state_dict()
    renamed = load_checkpoint(CheckpointFolder.open(tmp_path / "changed")).model.state_dict()
    torch.testing.assert_close(tuned["head.weight"], state["head.weight"], atol=1e-3, rtol=0)
    torch.testing.assert_close(
        renamed["blocks.0.mlp.fc1.weight"], state["blocks.0.mlp.fc1.weight"], atol=1e-3, rtol=0
    )
    assert not torch.allclose(renamed["head.weight"], state["head.weight"], atol=1e-3)


def test_other_front_ends_cannot_be_fine_tuned(tmp_path: Path) -> None:
    train_checkpoint(dataset(), [], job(tmp_path / "first"))
    known = load_checkpoint(CheckpointFolder.open(tmp_path / "first"))
    resized = replace(known, scaling=replace(known.scaling, resize_to=(224, 224)))
    with pytest.raises(ConfigError, match="its windows are resized"):
        train_checkpoint(dataset(), [], job(tmp_path / "second", start_from=resized))


def test_a_genre_without_train_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no train recording of Folk, "):
        train_checkpoint(dataset(GENRES), [], job(tmp_path))


def test_a_training_that_diverges_ends_with_an_error(tmp_path: Path) -> None:
    wild = OptimiserConfig(name="adamw", learning_rate=1e30)
    with pytest.raises(ConfigError, match="the loss is nan at step"):
        train_checkpoint(dataset(), [], job(tmp_path, recipe=replace(RECIPE, optimiser=wild)))
    assert not (tmp_path / "model.safetensors").exists()


def test_slow_validation_does_not_eat_the_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock_s = [0.0]

    def slow(*arguments: object, **options: object) -> float:
        clock_s[0] += 8.0
        return 0.5

    def tick() -> float:
        clock_s[0] += 0.25
        return clock_s[0]

    monkeypatch.setattr("acoustic.training.watch.validation_accuracy", slow)
    monkeypatch.setattr("acoustic.training.trainer.time.monotonic", tick)
    reports: list[Report] = []
    recipe = replace(RECIPE, n_crops=24 * 10_000, max_minutes=1.0)
    train_checkpoint(dataset(), [], job(tmp_path, recipe=recipe), reports.append)
    assert reports[-1].progress == 1.0
    assert reports[-1].n_crops > 24 * 70  # at most 120 steps; 14 if each were validated
    assert len(reports) < 6


def test_what_was_trained_on_is_no_valid_clip(tmp_path: Path) -> None:
    made = dataset()
    train_checkpoint(made, [], job(tmp_path))
    folder = CheckpointFolder.open(tmp_path)
    refuse_trained_on(folder, made.split("valid"))
    mixed = [*made.split("valid"), made.split("train")[0]]
    with pytest.raises(ConfigError, match=r"1 of 7 valid recordings .* such as 'train0'"):
        refuse_trained_on(folder, mixed)
    tuned = tmp_path / "tuned"
    start, known = load_checkpoint(folder), trained_groups(folder)
    others = [replace(clip, group=f"new {clip.group}") for clip in made.clips]
    fine = job(tuned, start_from=start, known_groups=known)
    train_checkpoint(replace(made, clips=others), [], fine)
    with pytest.raises(ConfigError, match=r"1 of 7 valid recordings .* such as 'train0'"):
        refuse_trained_on(
            CheckpointFolder.open(tuned), mixed
        )  # the base checkpoint was trained on it
    (tmp_path / TRAINING_FILE).unlink()
    refuse_trained_on(folder, mixed)  # without the facts file nothing is refused
