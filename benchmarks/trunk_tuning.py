"""Fine-tunes the last convolutions of the trunk, for one variant of `benchmarks.hybrid_recipe`.

The maps below them are computed once; they and a linear head on the mean maps are trained on the
labels, held near the weights that they have.

Shapes: R crops, S segments of a crop, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acoustic.classify.mobilenet import EMBEDDING, SEGMENT_FRAMES, MobileNetStem
from acoustic.data.dataset import Clip
from acoustic.training.batches import draw_weights
from acoustic.training.maps import CropSource
from acoustic.training.trainer import Recipe

LAYERS_OF_A_PAIR = 2
CROPS_PER_CLIP, BATCH_SIZE, N_STEPS = 6, 64, 600
LEARNING_RATE, HELD = 2e-4, 1e-2


def tune_last_pairs(
    stem: MobileNetStem, n_pairs: int, source: CropSource, clips: Sequence[Clip], recipe: Recipe
) -> None:
    """Train the last pairs of convolutions on the labels of the clips, in place.

    Args:
        stem: with the trunk, which has segments.
        n_pairs: number of pairs of convolutions that change.
        source: crops of the clips, in their order.
        clips: training clips.
        recipe: for the weights of the clips and the seed.
    """
    trunk = stem.trunk
    first = len(trunk.layers) - LAYERS_OF_A_PAIR * n_pairs
    lower, upper = trunk.layers[:first], trunk.layers[first:]
    draws = (stem.input(source.draw(i, CROPS_PER_CLIP)) for i in range(len(clips)))
    below = torch.cat([_below(lower, crops) for crops in draws])
    labels = torch.tensor([clip.label for clip in clips]).repeat_interleave(CROPS_PER_CLIP)
    weights = np.repeat(draw_weights(clips, recipe.batches), CROPS_PER_CLIP)
    n_classes = int(labels.max()) + 1
    head = nn.Linear(EMBEDDING, n_classes)
    nn.init.zeros_(head.weight)
    start = [p.detach().clone() for p in upper.parameters()]
    upper.requires_grad_(True)
    parameters = [*upper.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0)
    rng = np.random.default_rng(recipe.seed)
    for step in range(N_STEPS):
        for group in optimiser.param_groups:
            group["lr"] = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * step / N_STEPS))
        rows = torch.from_numpy(rng.choice(len(labels), BATCH_SIZE, p=weights / weights.sum()))
        logits = head(_mean_maps(upper, below[rows].float()))
        moved = sum(
            ((p - s).square().sum() for p, s in zip(upper.parameters(), start, strict=True)),
            torch.zeros(()),
        )
        loss = F.cross_entropy(logits, labels[rows], label_smoothing=0.1) + HELD * moved
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    upper.requires_grad_(False)


@torch.no_grad()
def _below(lower: nn.ModuleList, crops: Tensor) -> Tensor:
    """(R, S, E', h, w) float16 maps below the layers that are trained."""
    n_segments = crops.shape[3] // SEGMENT_FRAMES
    n, _, n_mels, _ = crops.shape
    x = crops.reshape(n, 1, n_mels, n_segments, SEGMENT_FRAMES).permute(0, 3, 1, 2, 4).flatten(0, 1)
    for layer in lower:
        x = layer(x)
    return x.reshape(n, n_segments, *x.shape[1:]).half()


def _mean_maps(upper: nn.ModuleList, below: Tensor) -> Tensor:
    """(R, 2 E) mean maps of the last two pairs, as the linear head of the model gets them."""
    x = before = below.flatten(0, 1)
    for i, layer in enumerate(upper):
        x = layer(x)
        if i == len(upper) - 1 - LAYERS_OF_A_PAIR:
            before = x
    maps = torch.cat([before.mean(dim=(2, 3)), x.mean(dim=(2, 3))], dim=1)
    return maps.reshape(len(below), -1, maps.shape[1]).mean(dim=1)
