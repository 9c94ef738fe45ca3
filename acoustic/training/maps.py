"""What a frozen trunk makes of augmented crops, computed once and trained on many times.

The trunk is most of a forward pass. While it stays as it was pre-trained, its maps of a crop
never change: each crop passes it once, and what follows it is trained on the stored results.

Shapes: K clips, R crops, N crops of a batch, P patches, E numbers of the trunk per patch, D width,
C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.linalg
import torch
from torch import Tensor

from acoustic.classify.mobilenet import MobileNetStem, TagHead
from acoustic.classify.normalise import Scaling
from acoustic.data.dataset import Clip
from acoustic.data.sources import LogMel
from acoustic.training.augment import OFF, AugmentConfig, augment, random_crop
from acoustic.training.batches import Batch, BatchConfig, draw_ahead, draw_weights

logger = logging.getLogger(__name__)

CROPS_PER_CLIP = 12
MAX_CROPS = 60_000
"""Most crops in all: the tokens and features of one take 20 KB."""

FIT_CROPS = 2_000
"""Crops that the principal components are fitted on, at most."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CropMaps:
    """R crops as the trunk sees them.

    Attributes:
        clip: (R,) index of the clip that each crop is from; K and above are non-music recordings.
        features: (R, F) float32, the tag head's standardised features.
        tokens: (R, P, D) float16, the stem's projected tokens.
        augmented: (R,) whether the crop was augmented.
    """

    clip: npt.NDArray[np.int64]
    augmented: npt.NDArray[np.bool_]
    features: Tensor
    tokens: Tensor


class CropSource:
    """Draws crops of a recording: the first half as they are, the others augmented.

    Args:
        recordings: (M, T_clip) uint8 of each recording, music first.
        noises: non-music recordings that augmented crops may get as noise; may be empty.
        scaling: normalisation of the model's input.
        n_frames: T, frames of one crop.
        config: strengths of the augmentation.
        seed: random seed of all draws.
        blocks: rows of each spectrogram in a window; all are augmented by the same draws.
    """

    def __init__(
        self,
        recordings: Sequence[LogMel],
        noises: Sequence[LogMel],
        *,
        scaling: Scaling,
        n_frames: int,
        config: AugmentConfig,
        seed: int,
        blocks: Sequence[int] = (),
    ) -> None:
        self._blocks = tuple(blocks)
        self._recordings = recordings
        self._noises = noises
        self._scaling = scaling
        self._n_frames = n_frames
        self._config = config
        self._seed = seed

    def __len__(self) -> int:
        return len(self._recordings)

    @staticmethod
    def n_plain(n_crops: int) -> int:
        """Number of a recording's crops that are not augmented; they come first."""
        return (n_crops + 1) // 2

    def draw(self, recording: int, n_crops: int) -> Tensor:
        """(n_crops, 1, M, T) normalised crops of one recording; the same at every call."""
        ends = np.cumsum(self._blocks or [len(self._recordings[recording])])
        rows = [slice(end - n, end) for n, end in zip(self._blocks or ends, ends, strict=True)]
        return torch.cat([self._drawn(recording, n_crops, each) for each in rows], dim=2)

    def _drawn(self, recording: int, n_crops: int, rows: slice) -> Tensor:
        rng = np.random.default_rng((self._seed, recording))
        plain = self._crops(recording, self.n_plain(n_crops), OFF, rng, rows)
        parts = [plain]
        if n_crops > 1:
            changed = self._crops(recording, n_crops // 2, self._config, rng, rows)
            noise = None
            if self._noises:
                drawn = rng.integers(len(self._noises), size=len(changed))
                noise = torch.stack(
                    [random_crop(self._noises[i][rows], self._n_frames, OFF, rng) for i in drawn]
                )
            generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
            parts.append(augment(changed, self._config, generator, noise))
        return self._scaling.scale_db(torch.cat(parts))[:, None]

    def _crops(
        self, recording: int, n: int, config: AugmentConfig, rng: np.random.Generator, rows: slice
    ) -> Tensor:
        log_mel = self._recordings[recording][rows]
        crops = [random_crop(log_mel, self._n_frames, config, rng) for _ in range(n)]
        return torch.stack(crops) - torch.stack(crops).amax(dim=(1, 2), keepdim=True)


def collect_maps(
    stem: MobileNetStem, tags: TagHead, source: CropSource, precision: str, *, fit: bool
) -> CropMaps:
    """Pass crops of all recordings through the trunk.

    Args:
        stem: the stem; its projection is fitted first if `fit`.
        tags: the head whose features are taken; their mean and deviation are fitted if `fit`.
        source: the crops.
        precision: arithmetic of the trunk, "bf16" or "fp32".
        fit: whether the model is new: else its projection and scales are used as they are.
    """
    per_clip = max(1, min(CROPS_PER_CLIP, MAX_CROPS // len(source)))
    if fit:
        chosen = np.linspace(0, len(source) - 1, min(FIT_CROPS, len(source))).astype(int)
        maps = [_maps(stem, source.draw(int(i), 1), precision) for i in chosen]
        fit_projection(stem, torch.cat(maps).flatten(0, 1))
    found = [
        pass_trunk(stem, tags, source.draw(i, per_clip), precision) for i in range(len(source))
    ]
    features = torch.cat([each for each, _ in found])
    if fit:
        tags.standard.fit(features)
    logger.info("passed the trunk n_crops=%d", len(features))
    return CropMaps(
        clip=np.repeat(np.arange(len(source)), per_clip),
        augmented=np.tile(np.arange(per_clip) >= source.n_plain(per_clip), len(source)),
        features=tags.standard(features),
        tokens=torch.cat([each for _, each in found]),
    )


@torch.no_grad()
def fit_projection(stem: MobileNetStem, maps: Tensor) -> None:
    """Set the stem's projection to the first D principal components of maps (R, E).

    All components are divided by the deviation of the first, times 4: the largest numbers are about
    as large as those that layer norms are used to.
    """
    stem.standard.fit(maps)
    rows = stem.standard(maps)
    mean = rows.mean(dim=0)
    width = stem.proj.out_features
    # rising eigenvalues; float64, because maps that are always 0 make it ill-conditioned
    values, vectors = scipy.linalg.eigh(
        np.cov(rows.numpy().astype(np.float64).T),
        subset_by_index=(rows.shape[1] - width, rows.shape[1] - 1),
    )
    scale = 4 / max(values[-1], 1e-6) ** 0.5
    weight = torch.from_numpy(vectors[:, ::-1].T * scale).float()
    stem.proj.weight.copy_(weight)
    stem.proj.bias.copy_(-weight @ mean)


class MapBatches:
    """Draws batches of stored tokens, with the interface of `batches.Batches`.

    Args:
        maps: crops of the clips and of the non-music recordings behind them.
        clips: the K clips.
        target: (R, C) float32 target of each crop.
        config: composition of a batch.
        seed: random seed of all draws.
        device: device of the batches, "cpu", "cuda" or "mps".
    """

    def __init__(
        self,
        maps: CropMaps,
        clips: Sequence[Clip],
        target: Tensor,
        *,
        config: BatchConfig,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self._device = device
        self._maps = maps
        self._target = target
        self._config = config
        self._seed = seed
        self._music = np.flatnonzero(maps.clip < len(clips))
        self._other = np.flatnonzero(maps.clip >= len(clips))
        weights = draw_weights(clips, config)[maps.clip[self._music]]
        self._weights = weights / weights.sum()

    def stream(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield batches `start` to `stop` − 1; see `draw_ahead`."""
        return draw_ahead(self.draw, start, stop)

    def draw(self, step: int) -> Batch:
        """Draw batch number `step`; its x is (N, P, D) tokens."""
        rng = np.random.default_rng((self._seed, step))
        seed = int(rng.integers(2**63))
        config = self._config
        n_other = round(config.batch_size * config.outlier_ratio) if len(self._other) else 0
        chosen = rng.choice(self._music, config.batch_size - n_other, p=self._weights)
        rows = torch.from_numpy(np.concatenate([chosen, rng.choice(self._other, n_other)]))
        x, target = self._maps.tokens[rows].float(), self._target[rows]
        if config.mixup_alpha:
            n = config.batch_size
            drawn = torch.from_numpy(rng.beta(config.mixup_alpha, config.mixup_alpha, n))
            weight = torch.maximum(drawn, 1 - drawn).float()[:, None]
            other = torch.from_numpy(rng.permutation(n))
            x = weight[:, :, None] * x + (1 - weight)[:, :, None] * x[other]
            target = weight * target + (1 - weight) * target[other]
        return Batch(step=step, seed=seed, x=x.to(self._device), target=target.to(self._device))


@torch.inference_mode()
def _maps(stem: MobileNetStem, x: Tensor, precision: str) -> Tensor:
    with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
        return stem.maps(x).float()


@torch.inference_mode()
def pass_trunk(
    stem: MobileNetStem, tags: TagHead, x: Tensor, precision: str
) -> tuple[Tensor, Tensor]:
    """The tag head's features, (N, F) float32, and the stem's tokens, (N, P, D) float16.

    Args:
        stem: stem with the trunk.
        tags: head whose features are taken.
        x: (N, 1, M, T) normalised windows.
        precision: arithmetic of the trunk, "bf16" or "fp32".
    """
    maps = _maps(stem, x, precision)
    return tags.features(maps.mean(dim=1)), stem.project(maps).half()
