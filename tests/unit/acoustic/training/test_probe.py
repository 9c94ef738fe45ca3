"""A new head on a published model's features, and a few trained blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.checkpoint import Checkpoint, load_checkpoint
from acoustic.classify.engine import Engine
from acoustic.classify.engine_config import EngineConfig
from acoustic.data.dataset import Clip, Dataset
from acoustic.errors import ConfigError
from acoustic.geometry import MelConfig
from acoustic.labels import Label, LabelSet
from acoustic.training.batches import BatchConfig, Batches
from acoustic.training.job import Job, train_checkpoint
from acoustic.training.probe import fit_probe, freeze
from acoustic.training.trainer import Recipe
from benchmarks.hub_models import save_ast, tiny_ast
from deployments.importing import import_checkpoint

N_FRAMES = 64


@pytest.fixture(scope="module")
def ast(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("probe")
    hub = save_ast(folder / "hub", tiny_ast(["a", "b", "c"], max_length=N_FRAMES, num_mel_bins=32))
    import_checkpoint(str(hub), folder / "out")
    return load_checkpoint(CheckpointFolder.open(folder / "out"))


def clips(n: int, seed: int = 0) -> list[Clip]:
    """Two kinds of sound: energy in the lower or the upper bands."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        values = rng.normal(-8, 1, (32, N_FRAMES + 30)).astype(np.float16)
        values[16 * (i % 2) : 16 * (i % 2) + 16] += 4
        found.append(
            Clip(
                log_mel=values,
                label=i % 2,
                group=f"g{i}",
                source="made",
                split="train",
                collection=f"c{i % 5}",
            )
        )
    return found


def test_a_probe_learns_what_the_features_tell_apart(ast: Checkpoint) -> None:
    before = {k: v.clone() for k, v in ast.model.state_dict().items()}
    model = fit_probe(ast, clips(40), 2, penalty=0.01, accelerator="cpu", n_threads=1)
    engine = Engine(
        model, ast.scaling, (32, N_FRAMES), EngineConfig(accelerator="cpu", precision="fp32")
    )
    held_out = clips(20, seed=1)
    logits = np.concatenate([engine.logits(each.log_mel[None, :, :N_FRAMES]) for each in held_out])
    engine.close()
    assert (logits.argmax(axis=1) == [each.label for each in held_out]).mean() >= 0.9
    kept = model.state_dict()
    for name in before:
        if not name.startswith("head"):
            torch.testing.assert_close(kept[name].float(), before[name].float(), msg=name)


def test_only_the_last_blocks_are_trained(ast: Checkpoint) -> None:
    model = fit_probe(ast, clips(8), 2, penalty=1, accelerator="cpu", n_threads=1)
    freeze(model, 1)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(name.startswith(("blocks.1.", "norm.", "head.")) for name in trained)
    assert "blocks.1.attn.qkv.weight" in trained
    with pytest.raises(ConfigError, match="2 blocks, fewer than 3"):
        freeze(model, 3)


def test_crops_of_absolute_levels_are_scaled_and_mixed_but_not_augmented(ast: Checkpoint) -> None:
    batches = Batches(
        clips(6),
        [],
        n_classes=2,
        n_frames=N_FRAMES,
        scaling=ast.scaling,
        config=BatchConfig(batch_size=4, mixup_alpha=0, outlier_ratio=0),
        seed=3,
    )
    batch = batches.draw(0)
    assert batch.x.shape == (4, 1, 32, N_FRAMES)
    values = batch.x * ast.scaling.std + ast.scaling.mean
    stored = np.concatenate([each.log_mel.ravel() for each in clips(6)]).astype(np.float32)
    assert np.isin(np.round(values.numpy().ravel(), 1), np.round(stored, 1)).all()


def test_a_model_with_two_heads_is_refused(tiny_checkpoint: Path) -> None:
    start = load_checkpoint(CheckpointFolder.open(tiny_checkpoint))
    with pytest.raises(ConfigError, match="two heads"):
        fit_probe(start, clips(2), 2, penalty=1, accelerator="cpu", n_threads=1)


def trained(start: Checkpoint, out: Path, **changes: object) -> Checkpoint:
    fields: dict[str, object] = {
        "out": out, "name": "probe", "version": "1", "variant": "vit_nano", "mel": MelConfig(),
        "start_from": start, "device": "cpu", "probe": True,
        "recipe": Recipe(n_crops=8, precision="fp32", batches=BatchConfig(batch_size=4)),
    }  # fmt: skip
    labels = LabelSet([Label(name="Low"), Label(name="High")])
    held_out = [replace(each, split="valid", group="v") for each in clips(2, seed=9)]
    dataset = Dataset(labels=labels, clips=[*clips(12), *held_out], skipped=[])
    train_checkpoint(dataset, [], Job(**{**fields, **changes}))  # type: ignore[arg-type]
    return load_checkpoint(CheckpointFolder.open(out))


def test_a_probe_becomes_a_checkpoint_of_the_own_genres(ast: Checkpoint, tmp_path: Path) -> None:
    made = trained(ast, tmp_path / "probe")
    assert made.manifest.labels.names == ("Low", "High")
    assert made.styles is None
    assert made.manifest.mel == ast.manifest.mel
    assert made.folder.read_json("training.json")["variant"] == "probe"
    assert made.manifest.source == ast.manifest.source  # the licence goes with the weights


def test_unfreezing_moves_the_last_block_alone(ast: Checkpoint, tmp_path: Path) -> None:
    made = trained(ast, tmp_path / "unfrozen", unfreeze=1).model.state_dict()
    half = {k: v.half().float() for k, v in ast.model.state_dict().items()}  # as it is stored
    assert torch.equal(made["blocks.0.attn.qkv.weight"], half["blocks.0.attn.qkv.weight"])
    assert torch.equal(made["pos_embed"], half["pos_embed"])
    assert not torch.equal(made["blocks.1.attn.qkv.weight"], half["blocks.1.attn.qkv.weight"])


def test_a_probe_needs_a_model_to_start_from(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="need a checkpoint to start from"):
        Job(
            out=tmp_path, name="", version="", variant="vit_nano", mel=MelConfig(),
            start_from=None, recipe=Recipe(), device="cpu", probe=True,
        )  # fmt: skip


def test_every_head_is_trained(tiny_checkpoint: Path) -> None:
    model = load_checkpoint(CheckpointFolder.open(tiny_checkpoint)).model
    freeze(model, 1)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {"statistics.fc2.weight", "head.weight"} <= trained
    assert "blocks.0.attn.qkv.weight" not in trained
