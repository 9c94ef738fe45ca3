"""Training: it learns, is reproducible from its seed, and resumes without a difference."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.checkpoint_folder import TRAINING_FILE, CheckpointFolder
from acoustic.classify.checkpoint import load_checkpoint
from acoustic.classify.normalise import Scaling
from acoustic.classify.vit import VARIANTS, VisionTransformer
from acoustic.data.dataset import Clip, Dataset
from acoustic.data.groups import refuse_trained_on, trained_groups
from acoustic.data.outliers import Outlier
from acoustic.data.windows import cut_windows
from acoustic.errors import ConfigError
from acoustic.fitting.temperature import track_probabilities
from acoustic.geometry import MelConfig
from acoustic.labels import GENRES, Label, LabelSet
from acoustic.training.batches import BatchConfig, Batches
from acoustic.training.job import Job, train_checkpoint
from acoustic.training.optimiser import OptimiserConfig, Optimisers
from acoustic.training.trainer import Progress, Recipe, Trainer, drop_patches, schedule_factor
from acoustic.training.validate import clip_logits
from acoustic.training.watch import STATE_FILE, Report
from tests.support.clips import GENRES_MADE, N_FRAMES, OFF, clip
from tests.support.models import TINY

RECIPE = Recipe(
    n_crops=1200,
    ema_decay=0.9,
    batches=BatchConfig(batch_size=24, mixup_alpha=0.01, augment=OFF),
    optimiser=OptimiserConfig(learning_rate=2e-3, matrix_rate=2e-3),
)
MADE = LabelSet([Label(name="Beats"), Label(name="Notes"), Label(name="Neither")])


def three_genres(split: str = "train", first_seed: int = 0, n: int = 6) -> list[Clip]:
    return [
        replace(clip(label, first_seed + seed, split), label=index)
        for index, label in enumerate(GENRES_MADE)
        for seed in range(n)
    ]


def batches(
    recipe: Recipe, outliers: list[np.ndarray] | None = None, n_classes: int = 3
) -> Batches:
    return Batches(
        three_genres(),
        outliers or [],
        n_classes=n_classes,
        n_frames=N_FRAMES,
        scaling=Scaling(),
        config=recipe.batches,
        seed=recipe.seed,
    )


def new_model(seed: int = 0) -> VisionTransformer:
    torch.manual_seed(seed)
    return VisionTransformer(replace(TINY, n_classes=3))


def test_windows_are_spread_and_renormalised(rng: np.random.Generator) -> None:
    log_mel = rng.integers(0, 200, (128, 700)).astype(np.uint8)
    windows = cut_windows(log_mel, N_FRAMES, 10)
    assert windows.shape == (10, 128, N_FRAMES)
    assert (windows.max(axis=(1, 2)) == 255).all()
    assert windows.dtype == np.uint8


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_it_learns(optimiser: str) -> None:
    recipe = replace(RECIPE, optimiser=replace(RECIPE.optimiser, name=optimiser))
    model = Trainer(new_model(), recipe).run(batches(recipe))
    held_out = three_genres("valid", 100, 1)

    def forward(windows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(Scaling().apply(torch.from_numpy(windows))).numpy()

    probabilities = track_probabilities(clip_logits(forward, held_out, N_FRAMES, 3), 1.0)
    assert probabilities.argmax(axis=1).tolist() == [0, 1, 2]
    assert probabilities.max(axis=1).min() > 0.5


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    outliers = [np.full((128, 200), 9, np.uint8)]
    recipe = replace(RECIPE, batches=BatchConfig(batch_size=20))
    streamed = list(batches(recipe, outliers).stream(3, 6))
    again = batches(recipe, outliers).draw(4)
    assert [b.step for b in streamed] == [3, 4, 5]
    assert torch.equal(streamed[1].x, again.x)
    assert torch.equal(streamed[1].target, again.target)
    assert not torch.equal(streamed[0].x, again.x)
    other = batches(replace(recipe, seed=1), outliers).draw(4)
    assert not torch.equal(other.x, again.x)


def test_outliers_are_examples_of_no_genre() -> None:
    config = BatchConfig(batch_size=20, mixup_alpha=0, outlier_ratio=0.2, augment=OFF)
    drawn = batches(replace(RECIPE, batches=config), [np.full((128, 200), 9, np.uint8)]).draw(0)
    is_uniform = (drawn.target == 1 / 3).all(dim=1)
    assert is_uniform.sum() == 4
    assert len(drawn.x[is_uniform].unique()) == 1
    assert len(drawn.x[~is_uniform].unique()) > 100


def test_rare_genres_are_drawn_more_often_than_they_come() -> None:
    clips = [*three_genres(n=1), *three_genres(first_seed=9, n=14)[:14]]
    config = BatchConfig(batch_size=900, mixup_alpha=0, balance=0.0, augment=OFF)
    drawn = Batches(
        clips, [], n_classes=3, n_frames=N_FRAMES, scaling=Scaling(), config=config, seed=0
    ).draw(0)
    assert drawn.target.mean(dim=0).tolist() == pytest.approx([1 / 3] * 3, abs=0.05)


def test_patch_dropout_keeps_whole_tokens() -> None:
    tokens = torch.arange(2 * 10).reshape(2, 10, 1).float()
    kept = drop_patches(tokens, 0.3, torch.Generator().manual_seed(0))
    assert kept.shape == (2, 7, 1)
    assert all(len(set(row.flatten().tolist())) == 7 for row in kept)
    assert set(kept[0].flatten().tolist()) <= set(range(10))


def test_masks_are_for_the_transformer_alone() -> None:
    seen: dict[str, torch.Tensor] = {}

    class Recorder(VisionTransformer):
        def embed(self, x: torch.Tensor) -> torch.Tensor:
            seen["tokens"] = x
            return super().embed(x)

        def logits_per_head(self, x: torch.Tensor, x_ND: torch.Tensor) -> list[torch.Tensor]:
            seen["statistics"] = x
            return super().logits_per_head(x, x_ND)

    batch = batches(RECIPE).draw(0)
    recipe = replace(RECIPE, n_crops=1)
    Trainer(Recorder(replace(TINY, n_classes=3)), recipe).run(batches(recipe))
    assert torch.equal(seen["statistics"], batch.x)
    share = (seen["tokens"] != batch.x).float().mean()
    assert 0.05 < share < 0.5


def test_the_schedule_rises_then_falls_to_zero() -> None:
    factors = [schedule_factor(i / 100, 0.1) for i in range(101)]
    assert max(factors) == pytest.approx(1.0)
    assert factors.index(max(factors)) == 10
    assert factors[-1] == pytest.approx(0.0, abs=1e-12)
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_the_rate_falls_from_head_to_stem() -> None:
    model = new_model()
    config = OptimiserConfig(name="adamw", layer_decay=0.5, learning_rate=1.0, weight_decay=0.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    loss = sum((p * torch.sign(torch.randn_like(p))).sum() for p in model.parameters())
    Optimisers(model, config).step(loss, factor=1e-3)  # type: ignore[arg-type]
    moved = {n: (p - before[n]).abs().max().item() for n, p in model.named_parameters()}
    assert moved["head.weight"] == pytest.approx(1e-3, rel=0.01)
    assert moved["blocks.1.mlp.fc1.weight"] == pytest.approx(0.5e-3, rel=0.01)
    assert moved["blocks.0.mlp.fc1.weight"] == pytest.approx(0.25e-3, rel=0.01)
    assert moved["patch_embed.proj.weight"] == pytest.approx(0.125e-3, rel=0.01)


def test_a_time_limit_shortens_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = iter(range(0, 10_000, 6))
    monkeypatch.setattr("acoustic.training.trainer.time.monotonic", lambda: float(next(now_s)))
    recipe = replace(RECIPE, n_crops=24_000, max_minutes=1.0)
    seen: list[Progress] = []
    Trainer(new_model(), recipe).run(batches(recipe), seen.append)
    assert seen[-1].progress == 1.0
    assert len(seen) == 10
    assert [p.progress for p in seen] == sorted(p.progress for p in seen)


# ---- whole training runs


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
