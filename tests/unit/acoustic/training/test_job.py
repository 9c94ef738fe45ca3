"""The training job: what follows from its data and settings, without training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.checkpoint import Checkpoint, load_checkpoint
from acoustic.classify.vit_config import VARIANTS
from acoustic.data.dataset import Dataset
from acoustic.data.outliers import Outlier
from acoustic.errors import ConfigError
from acoustic.geometry import MelConfig
from acoustic.labels import GENRES, Label, LabelSet
from acoustic.training.job import Job, _data_digest, _model, fit_scaling, train_checkpoint
from acoustic.training.trainer import Recipe
from tests.support.clips import BEATS, NOTES, clip
from tests.support.models import TINY


@pytest.fixture(autouse=True)
def _tiny_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VARIANTS, "tiny", TINY)


@pytest.fixture
def known(tiny_checkpoint: Path) -> Checkpoint:
    return load_checkpoint(CheckpointFolder.open(tiny_checkpoint))


def job(**changes: object) -> Job:
    fields = {
        "out": Path("unused"), "name": "made", "version": "1", "variant": "tiny",
        "mel": MelConfig(), "start_from": None, "recipe": Recipe(), "device": "cpu",
    }  # fmt: skip
    return Job(**{**fields, **changes})  # type: ignore[arg-type]


def test_the_scaling_is_the_mean_and_deviation_in_decibels() -> None:
    clips = [clip(BEATS, seed, n_frames=600) for seed in range(4)]
    values_db = np.concatenate([c.log_mel.ravel() for c in clips]) * (80 / 255) - 80.0
    found = fit_scaling(clips)
    # a fiftieth of the values: 4 σ of the mean of 6,000 draws
    assert found.mean_db == pytest.approx(values_db.mean(), abs=4 * values_db.std() / 78)
    assert found.std_db == pytest.approx(values_db.std(), rel=0.05)


def test_the_digest_of_the_data_follows_every_value_and_label() -> None:
    clips = [clip(BEATS, 1), clip(NOTES, 2)]
    changed = clips[0].log_mel.copy()
    changed[5, 7] ^= 1
    outlier = Outlier(
        waveform=np.zeros(1, np.float32), log_mel=np.zeros((4, 4), np.uint8), kind="rain"
    )
    digests = [
        _data_digest(clips, []),
        _data_digest([replace(clips[0], label=NOTES), clips[1]], []),
        _data_digest([replace(clips[0], log_mel=changed), clips[1]], []),
        _data_digest([replace(clips[0], log_mel=clips[0].log_mel.T), clips[1]], []),
        _data_digest(clips[::-1], []),
        _data_digest(clips, [outlier]),
    ]
    assert len(set(digests)) == len(digests)
    assert _data_digest([replace(c, source="elsewhere") for c in clips], []) == digests[0]


def test_a_new_model_has_the_geometry_and_the_genres_of_the_data() -> None:
    made = job(mel=MelConfig(n_mels=64, n_frames=160)).architecture(7)
    assert (made.input_height, made.input_width, made.n_classes) == (64, 160, 7)
    assert made.width == TINY.width


def test_a_window_that_the_variant_cannot_work_on_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="80 frames, got 128 x 48"):
        job(mel=MelConfig(n_frames=48))


def test_fine_tuning_keeps_the_geometry_of_the_checkpoint(known: Checkpoint) -> None:
    made = job(start_from=known, mel=MelConfig(n_frames=160))
    assert made.geometry == known.manifest.mel
    assert job(mel=MelConfig(n_frames=160)).geometry.n_frames == 160


def test_the_same_genres_keep_the_head_and_others_start_it_afresh(known: Checkpoint) -> None:
    made = job(start_from=known)
    assert _model(made, [], GENRES) is known.model
    other = _model(made, [], LabelSet(Label(name=name) for name in "abc"))
    assert other.config.n_classes == 3
    before, after = known.model.state_dict(), other.state_dict()
    assert set(before) == set(after)
    for name, value in after.items():
        if value.shape == before[name].shape:
            torch.testing.assert_close(value, before[name])
        else:
            assert name.startswith(("head.", "statistics.fc2."))


def test_a_checkpoint_of_another_depth_in_decibels_is_not_fine_tuned(
    known: Checkpoint, tmp_path: Path
) -> None:
    manifest = replace(known.manifest, mel=replace(known.manifest.mel, top_db=60.0))
    clips = [replace(clip(BEATS, i), label=i) for i in range(16)]
    with pytest.raises(ConfigError, match="reach down to 60 dB instead of 80"):
        train_checkpoint(
            Dataset(labels=GENRES, clips=clips, skipped=[]),
            [],
            job(
                out=tmp_path / "new",
                start_from=replace(known, folder=replace(known.folder, manifest=manifest)),
            ),
        )
    assert not (tmp_path / "new").exists()
