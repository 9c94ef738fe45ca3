"""Fits variants of the recipe of vit_hybrid, and answers the tracks of collections left out.

The crops pass each trunk once; every variant is fitted to its maps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from acoustic.classify.mobilenet import EMBEDDING, MUSIC_CLASSES, MobileNetStem, TagHead
from acoustic.classify.vit import VisionTransformer
from acoustic.classify.vit_config import VARIANTS
from acoustic.data.dataset import Clip, Dataset
from acoustic.data.groups import group_hash, without_repeats
from acoustic.data.unseen import unseen
from acoustic.data.windows import cut_windows
from acoustic.fitting.calibrate import Calibrated, CalibrationConfig, cross_fit
from acoustic.fitting.tracks import Tracks
from acoustic.training.hybrid import teach, teaching_folds
from acoustic.training.maps import CropMaps, CropSource, MapBatches, collect_maps, pass_trunk
from acoustic.training.recipes import default_recipe
from acoustic.training.tag_prior import start_from_tags
from acoustic.training.trainer import Recipe, Trainer, native_precision
from acoustic.training.trunk import FRONTS
from benchmarks.trunk_tuning import tune_last_pairs

N_WINDOWS = 10


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One difference from the recipe.

    Attributes:
        title: what it is, for the table.
        recipe: changes the recipe.
        depth: number of transformer blocks.
        heads: which heads answer: "both", "transformer" or "linear".
        crops: "all", or "plain" for those that are not augmented.
        features: "all", or "first" or "second" for those of one trunk, of the linear head alone.
        clips: keeps some of the train clips.
        trunk: "as it is", "whole window" (convolved at once), or the number of its last pairs of
            convolutions that are fine-tuned.
        teachers: "linear", or "ensemble" for the linear head with a transformer, both fitted
            without a fold's collections.
    """

    title: str
    recipe: Callable[[Recipe], Recipe] = lambda recipe: recipe
    depth: int = 2
    heads: str = "both"
    crops: str = "all"
    features: str = "all"
    clips: Callable[[Clip], bool] = lambda clip: True
    trunk: str = "as it is"
    teachers: str = "linear"


class Bench:
    """Maps of all crops and of the test windows, computed once.

    Args:
        dataset: train clips, and valid clips of which some collections are not in train.
        outliers: non-music recordings.
        architecture: "vit_hybrid" or "vit_hybrid_musicnn".
        trunk: weights of its trunks.
        crops: number of crops that a transformer sees.
        seeds: number of random seeds whose logits are averaged.
    """

    def __init__(
        self,
        dataset: Dataset,
        outliers: Sequence[Any],
        architecture: str,
        trunk: dict[str, Tensor],
        crops: int,
        seeds: int,
    ) -> None:
        self.labels = dataset.labels
        self.train = dataset.split("train")
        trained = {group_hash(clip.collection) for clip in self.train}
        valid = without_repeats(dataset.split("valid"))
        flags = unseen([clip.collection for clip in valid], trained)
        self.test = [clip for clip, flag in zip(valid, flags, strict=True) if flag]
        config = replace(VARIANTS[architecture], n_classes=len(self.labels))
        self.recipe = replace(
            default_recipe(config), n_crops=crops, precision=native_precision("cpu")
        )
        self.front = FRONTS[architecture]
        self.seeds = seeds
        self.n_outliers = len(outliers)
        torch.manual_seed(0)
        self.base = VisionTransformer(config)
        self.base.load_state_dict(trunk, strict=False)
        self.source = CropSource(
            [*(clip.log_mel for clip in self.train), *(each.log_mel for each in outliers)],
            [each.log_mel for each in outliers],
            scaling=self.front.scaling,
            n_frames=self.front.mel.n_frames,
            config=self.recipe.batches.augment,
            seed=0,
            blocks=[each.n_mels for each in self.front.mel.blocks],
        )
        self._maps = cache(self._pass)

    def _pass(self, trunk: str) -> tuple[VisionTransformer, CropMaps, list[tuple[Tensor, Tensor]]]:
        """A model with that trunk, its maps of the crops, and those of the test windows."""
        model = deepcopy(self.base)
        stem, tags = cast(MobileNetStem, model.patch_embed), cast(TagHead, model.tags)
        if trunk == "whole window":
            stem.trunk.segment_frames = None
        elif trunk != "as it is":
            tune_last_pairs(stem, int(trunk), self.source, self.train, self.recipe)
        precision = self.recipe.precision
        maps = collect_maps(stem, tags, self.source, precision, fit=True)
        windows = [pass_trunk(stem, tags, self._input(clip), precision) for clip in self.test]
        return model, maps, windows

    def logits(self, variant: Variant) -> list[Any]:
        """(S, C) logits of every test track."""
        found = [self._logits(variant, variant.clips, seed) for seed in range(self.seeds)]
        return [np.mean(each, axis=0) for each in zip(*found, strict=True)]

    def with_guessed_labels(self, keep: Callable[[Clip], bool]) -> Bench:
        """The same, with other train clips labelled by a linear head that never heard them.

        Args:
            keep: the clips that keep their labels, and that the head is fitted to.
        """
        kept = np.flatnonzero([keep(clip) for clip in self.train])
        _, tags = self._fitted(Variant(title="", heads="linear"), kept, 0)
        maps = self._maps("as it is")[1]
        with torch.inference_mode():
            logits = tags.head(tags.standard(maps.features))
        guessed = [
            clip
            if keep(clip)
            else replace(clip, label=int(logits[maps.clip == i].mean(0).argmax()))
            for i, clip in enumerate(self.train)
        ]
        other = copy(self)
        other.train = guessed
        return other

    def _logits(self, variant: Variant, keep: Callable[[Clip], bool], seed: int) -> list[Any]:
        kept = np.flatnonzero([keep(clip) for clip in self.train])
        model, tags = self._fitted(variant, kept, seed)
        answers = []
        with torch.inference_mode():
            for features, tokens in self._maps(variant.trunk)[2]:
                linear = tags.head(_of_trunk(tags.standard(features), variant.features))
                learned = self._learned(model, tokens)
                chosen = {"linear": [linear], "transformer": [learned]}
                heads = chosen.get(variant.heads, [linear, learned])
                answers.append(torch.stack(heads).mean(dim=0).numpy())
        return answers

    def _fitted(self, variant: Variant, kept: Any, seed: int) -> tuple[VisionTransformer, TagHead]:
        recipe = replace(variant.recipe(self.recipe), seed=seed)
        clips = [self.train[i] for i in kept]
        known, all_maps, _ = self._maps(variant.trunk)
        maps = self._take(all_maps, kept, variant.crops)
        maps = replace(maps, features=_of_trunk(maps.features, variant.features))
        torch.manual_seed(seed)
        model = VisionTransformer(replace(known.config, depth=variant.depth))
        state = {
            name: value
            for name, value in known.state_dict().items()
            if name.startswith(("patch_embed.", "tags.audioset.", "tags.standard."))
        }
        model.load_state_dict(state, strict=False)
        tags = cast(TagHead, model.tags)
        model.patch_embed.requires_grad_(False)
        tags.requires_grad_(False)
        start_from_tags(tags.head, self.labels, recipe.hybrid.tag_prior)
        target = teach(tags.head, maps, clips, recipe, len(self.labels))
        if variant.teachers == "ensemble":
            target = self._taught_by_both(variant, kept, seed, maps, target)
        if variant.heads != "linear":
            batches = MapBatches(maps, clips, target, config=recipe.batches, seed=seed)
            model = Trainer(model, recipe).run(batches)
        return model, cast(TagHead, model.tags)

    def _taught_by_both(
        self, variant: Variant, kept: Any, seed: int, maps: CropMaps, target: Tensor
    ) -> Tensor:
        """Targets whose taught share is the mean answer of linear head and transformer."""
        recipe = variant.recipe(self.recipe)
        folds = teaching_folds([self.train[i] for i in kept])
        target = target.clone()
        for fold in np.unique(folds):
            without = replace(variant, teachers="linear")
            model, _ = self._fitted(without, kept[folds != fold], seed)
            rows = torch.from_numpy(np.isin(maps.clip, np.flatnonzero(folds == fold)))
            with torch.inference_mode():
                learned = torch.softmax(self._learned(model, maps.tokens[rows]), dim=1)
                labels = torch.tensor([self.train[kept[i]].label for i in maps.clip[rows.numpy()]])
            known = torch.nn.functional.one_hot(labels, len(self.labels)).float()
            taught = recipe.hybrid.taught
            linear = (target[rows] - (1 - taught) * known) / taught
            target[rows] = taught * (linear + learned) / 2 + (1 - taught) * known
        return target

    @staticmethod
    def _learned(model: VisionTransformer, tokens: Tensor) -> Tensor:
        return model.head_logits(model.pool(model.embed(tokens.float())))

    def _take(self, maps: CropMaps, kept: Any, crops: str) -> CropMaps:
        clip, n_clips = maps.clip, len(self.train)
        place = np.full(n_clips + self.n_outliers, -1)
        place[kept] = np.arange(len(kept))
        place[n_clips:] = len(kept) + np.arange(self.n_outliers)
        chosen = place[clip] >= 0
        if crops == "plain":
            chosen &= ~maps.augmented
        rows = np.flatnonzero(chosen)
        return CropMaps(
            clip=place[clip[rows]],
            augmented=maps.augmented[rows],
            features=maps.features[rows],
            tokens=maps.tokens[rows],
        )

    def calibrated(self, logits: list[Any]) -> Calibrated:
        """Cross-fitted answers of the test tracks."""
        n = len(self.test)
        tracks = Tracks(
            logits={N_WINDOWS: logits},
            labels=np.array([clip.label for clip in self.test], np.int64),
            sources=np.array([clip.source for clip in self.test]),
            groups=np.array([group_hash(clip.group) for clip in self.test]),
            collections=np.array([group_hash(clip.collection) for clip in self.test]),
            unseen=np.ones(n, bool),
            recordings=np.array([clip.track or f"number {i}" for i, clip in enumerate(self.test)]),
        )
        return cross_fit(tracks, self.labels, N_WINDOWS, 0.8, CalibrationConfig())

    def _input(self, clip: Clip) -> Tensor:
        windows = cut_windows(clip.log_mel, self.front.mel.n_frames, N_WINDOWS)
        return self.front.scaling.apply(torch.from_numpy(windows))


def _of_trunk(features: Tensor, trunk: str) -> Tensor:
    """Standardised features (…, F) of which those of the other trunk are 0."""
    first, second = features.tensor_split([EMBEDDING + len(MUSIC_CLASSES)], dim=-1)
    kept = {"first": (1, 0), "second": (0, 1)}.get(trunk, (1, 1))
    return torch.cat([kept[0] * first, kept[1] * second], dim=-1)
