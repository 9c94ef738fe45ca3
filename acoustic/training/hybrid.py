"""Training of a vit_hybrid: a linear head on the frozen trunk first, which then teaches the rest.

1. Every recording gives a few crops, half of them augmented; they pass the frozen trunk once.
2. The linear head is fitted to the mean maps, from where AudioSet's genres put it: a convex problem
   with a strong penalty. So is another one, which tells music from other sounds, if there are such.
3. Heads fitted without a fold's collections answer that fold's crops. These cross-fitted answers
   know nothing of the crops' own collections.
4. The transformer learns from a mixture of them and the labels. What each part contributes is in
   docs/recipe.md.

Source: Hinton et al., Distilling the Knowledge in a Neural Network (2015).
Shapes: K clips, R crops, F features, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acoustic.classify.mobilenet import MobileNetStem, TagHead
from acoustic.classify.normalise import Scaling
from acoustic.classify.vit import VisionTransformer
from acoustic.data.dataset import Clip
from acoustic.data.groups import joined
from acoustic.data.sources import LogMel
from acoustic.geometry import MUSICNN_MELS, YAMNET_MELS
from acoustic.labels import LabelSet
from acoustic.training.batches import draw_weights
from acoustic.training.linear_head import fit_linear_head
from acoustic.training.maps import CropMaps, CropSource, MapBatches, collect_maps
from acoustic.training.tag_prior import start_from_tags
from acoustic.training.trainer import Recipe

N_FOLDS = 4
LARGE_COLLECTION = 0.05
"""Share of the clips from which a collection is divided by group: left out whole, whole genres
would go with it."""


def prepare_hybrid(
    model: VisionTransformer,
    clips: Sequence[Clip],
    outliers: Sequence[LogMel],
    labels: LabelSet,
    *,
    scaling: Scaling,
    recipe: Recipe,
    is_new: bool,
    device: str = "cpu",
) -> MapBatches:
    """Fit the linear head of a model, and draw the batches that its transformer is trained on.

    Args:
        model: a vit_hybrid with its pre-trained trunks; changed in place. Everything but its
            transformer needs no gradient afterwards.
        clips: K training clips.
        outliers: non-music recordings, each (M, T_clip) uint8; may be empty.
        labels: the genres of the model.
        scaling: normalisation of the model's input.
        recipe: settings of the training.
        is_new: whether only the trunk was trained before; else projection and scales stay, and the
            linear head starts from what it has learned.
        device: device of the batches; the trunk runs on the CPU.

    Raises:
        ConfigError: the linear head cannot be fitted.
    """
    stem, tags = cast(MobileNetStem, model.patch_embed), cast(TagHead, model.tags)
    for part in (stem, tags):
        part.requires_grad_(False)
    config = recipe.batches
    source = CropSource(
        [*(clip.log_mel for clip in clips), *outliers],
        outliers,
        scaling=scaling,
        n_frames=model.config.input_width,
        config=config.augment,
        seed=recipe.seed,
        blocks=(YAMNET_MELS, MUSICNN_MELS) if model.config.musicnn else (),
    )
    maps = collect_maps(stem, tags, source, recipe.precision, fit=is_new)
    if is_new:
        start_from_tags(tags.head, labels, recipe.hybrid.tag_prior)
    if outliers:
        fit_kind(tags.kind, maps, clips, recipe)
    target = teach(tags.head, maps, clips, recipe, model.config.n_classes)
    return MapBatches(maps, clips, target, config=config, seed=recipe.seed, device=device)


def fit_kind(kind: nn.Linear, maps: CropMaps, clips: Sequence[Clip], recipe: Recipe) -> None:
    """Fit the head that tells music from other sounds; both kinds count the same."""
    is_music = maps.clip < len(clips)
    weights = np.full(len(is_music), 0.5 / np.count_nonzero(~is_music))
    of_music = draw_weights(clips, recipe.batches)[maps.clip[is_music]]
    weights[is_music] = 0.5 * of_music / of_music.sum()
    target = F.one_hot(torch.from_numpy(is_music.astype(np.int64)), 2).float()
    features, counted = maps.features[:, : kind.in_features], torch.from_numpy(weights).float()
    fit_linear_head(kind, features, target, counted, recipe.hybrid.kind_penalty)


def teach(
    head: nn.Linear, maps: CropMaps, clips: Sequence[Clip], recipe: Recipe, n_classes: int
) -> Tensor:
    """Fit the head on all music; (R, C) targets of the crops from heads fitted without them."""
    music = torch.from_numpy(np.flatnonzero(maps.clip < len(clips)))
    of_clip = maps.clip[music]
    labels = np.array([clip.label for clip in clips])
    counted = np.where(maps.augmented[music], recipe.hybrid.augmented, 1.0)
    weights = torch.from_numpy(draw_weights(clips, recipe.batches)[of_clip] * counted).float()
    # non-music is none of the genres: it stays at the uniform distribution
    target = torch.full((len(maps.clip), n_classes), 1 / n_classes)
    target[music] = F.one_hot(torch.from_numpy(labels[of_clip]), n_classes).float()
    features, known = maps.features[music], target[music].clone()
    start = {name: value.clone() for name, value in head.state_dict().items()}
    answered = known.clone()
    folds = teaching_folds(clips)
    heads_of_folds = []
    for fold in np.unique(folds):
        inside = torch.from_numpy(folds[of_clip] == fold)
        if inside.all():
            continue
        head.load_state_dict(start)
        fit_linear_head(
            head, features[~inside], known[~inside], weights[~inside], recipe.hybrid.penalty
        )
        # a genre of this fold alone was not learned without it: its crops keep their labels
        learned = np.isin(labels[of_clip], labels[folds != fold])
        rows = inside & torch.from_numpy(learned)
        answered[rows] = torch.softmax(head(features[rows]), dim=1)
        heads_of_folds.append(torch.softmax(head(maps.features), dim=1))
    taught = recipe.hybrid.taught
    if heads_of_folds:
        everything = torch.stack(heads_of_folds).mean(dim=0)
        everything[music] = answered
        target = taught * everything + (1 - taught) * target
    head.load_state_dict(start)
    fit_linear_head(head, features, known, weights, recipe.hybrid.penalty)
    return target


def teaching_folds(clips: Sequence[Clip]) -> npt.NDArray[np.int64]:
    """(K,) number of each clip's fold; no group and no smaller collection is in two."""
    counts = Counter(clip.collection for clip in clips)
    largest = LARGE_COLLECTION * len(clips)
    units = [
        f"group {clip.group}"
        if counts[clip.collection] > largest
        else f"collection {clip.collection}"
        for clip in clips
    ]
    unit = joined(units, [clip.group for clip in clips])
    order = np.random.default_rng(0).permutation(unit.max() + 1)
    return np.asarray(order[unit] % N_FOLDS, np.int64)
