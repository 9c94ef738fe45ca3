"""The masked autoencoder: it restores what can be restored, and leaves a better encoder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from acoustic.classify.scaling import Scaling
from acoustic.classify.vit import VisionTransformer
from acoustic.errors import ConfigError
from acoustic.training.batches import BatchConfig, Batches
from acoustic.training.optimiser import OptimiserConfig, Optimisers
from acoustic.training.pretrain import MaskedAutoencoder, _normalised_patches, pretrain
from acoustic.training.train import Recipe
from tests.clips import N_FRAMES, NOTES, OFF, clip
from tests.models import TINY

RECIPE = Recipe(
    batches=BatchConfig(batch_size=16, mixup_alpha=0, augment=OFF),
    optimiser=OptimiserConfig(learning_rate=3e-3, matrix_rate=3e-3),
)


def notes() -> Batches:
    """Held notes: what is blanked follows from what is seen to the left and right."""
    clips = [clip(NOTES, seed) for seed in range(8)]
    quiet = [replace(c, log_mel=np.where(c.log_mel == 255, c.log_mel, 0)) for c in clips]
    return Batches(
        quiet, [], n_classes=16, n_frames=N_FRAMES,
        scaling=Scaling(), config=RECIPE.batches, seed=0,
    )  # fmt: skip


def test_it_restores_better_than_the_mean() -> None:
    torch.manual_seed(0)
    loss = pretrain(VisionTransformer(TINY), notes(), RECIPE, n_crops=640)
    assert loss < 0.96  # a patch has variance 1: its mean would score 1


def test_only_the_kept_patches_are_seen() -> None:
    torch.manual_seed(0)
    model = MaskedAutoencoder(VisionTransformer(replace(TINY, stem="linear"))).eval()
    x = torch.randn(1, 1, 128, N_FRAMES)
    visible = torch.rand(1, 72, generator=torch.Generator().manual_seed(3)).argsort(dim=1)[:, :22]
    hidden = next(i for i in range(72) if i not in visible[0].tolist())
    row, column = divmod(hidden, N_FRAMES // 16)
    changed = x.clone()
    changed[:, :, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] *= -1
    restored: list[torch.Tensor] = []
    model.restore.register_forward_hook(lambda module, inputs, output: restored.append(output))
    for each in (x, changed):
        model(each, torch.Generator().manual_seed(3))
    torch.testing.assert_close(restored[0], restored[1])


def test_patches_are_cut_row_by_row_and_normalised() -> None:
    x = torch.arange(128 * N_FRAMES).float().view(1, 1, 128, N_FRAMES)
    patches = _normalised_patches(x, TINY)
    assert patches.shape == (1, 72, 256)
    assert patches.mean(dim=2).abs().max() < 1e-3
    assert patches.std(dim=2).mean() == pytest.approx(1.0, abs=1e-3)
    first = x[0, 0, :16, 16:32].flatten()
    expected = (first - first.mean()) / first.std()
    np.testing.assert_allclose(patches[0, 1], expected, atol=1e-3)


def test_muon_steps_the_blocks_here_too() -> None:
    optimisers = Optimisers(MaskedAutoencoder(VisionTransformer(TINY)), RECIPE.optimiser)
    n_muon = len(optimisers.state_dict()[0]["param_groups"])
    assert n_muon == TINY.depth * 4  # qkv, proj, fc1, fc2


def test_a_class_token_is_refused() -> None:
    model = VisionTransformer(replace(TINY, pool="cls"))
    with pytest.raises(ConfigError, match="pools by the mean"):
        pretrain(model, notes(), RECIPE, n_crops=16)
