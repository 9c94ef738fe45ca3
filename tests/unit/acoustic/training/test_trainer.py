"""The training loop and what feeds it: it learns, and is reproducible from its seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from acoustic.classify.normalise import Scaling
from acoustic.classify.vit import VisionTransformer
from acoustic.data.windows import cut_windows
from acoustic.fitting.temperature import track_probabilities
from acoustic.training.batches import BatchConfig, Batches
from acoustic.training.optimiser import OptimiserConfig, Optimisers
from acoustic.training.trainer import Progress, Trainer, drop_patches, schedule_factor
from acoustic.training.validate import clip_logits
from tests.support.clips import N_FRAMES, OFF
from tests.support.models import TINY
from tests.support.training import RECIPE, batches, new_model, three_genres


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
