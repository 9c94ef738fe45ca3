"""Batches of augmented, mixed crops: batch number k is a function of the seed and k alone.

An interrupted training can therefore resume at any step without stored generators, and the next
batch can be drawn on another thread while the model processes the current one.

Shapes: N crops, M mel bands, T frames, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from acoustic.classify.normalise import Scaling
from acoustic.data.dataset import Clip
from acoustic.training.augment import AugmentConfig, augment, random_crop
from acoustic.types import WindowValues


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Input and target of one training step.

    Attributes:
        step: number of the step, from 0.
        seed: random seed of this step's masks and dropout; follows from the training's seed and
            the step.
        x: (N, 1, M, T) float32, normalised.
        target: (N, C) float32, rows sum to 1.
    """

    step: int
    seed: int
    x: Tensor
    target: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchConfig:
    """Composition of a batch.

    Attributes:
        batch_size: N, crops per batch, at least 2.
        balance: power of the clip count with which classes are drawn: 1 as in the data, 0 equal.
        collection_balance: the same power within a genre for the clips of each collection, so that
            a large collection does not define a genre.
        mixup_alpha: parameter of mixup's Beta distribution; 0 turns mixup off.
        outlier_ratio: share of non-music crops in a batch, in [0, 1), if there are such
            recordings; their target is the uniform distribution (Hendrycks et al., Deep Anomaly
            Detection with Outlier Exposure, 2019).
        augment: strengths of the augmentations.
    """

    batch_size: int = 48
    balance: float = 0.5
    collection_balance: float = 0.5
    mixup_alpha: float = 0.4
    outlier_ratio: float = 0.1
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ValueError(f"batch_size is {self.batch_size}, must be at least 2")
        if not 0 <= self.outlier_ratio < 1:
            raise ValueError(f"outlier_ratio is {self.outlier_ratio}, limits are 0 to below 1")


class Batches:
    """Draws the batches of one training.

    Crops of relative levels are augmented. Those of absolute levels, of published models, are taken
    as they are and mixed: the augmentations are made for decibels.

    Args:
        clips: training clips.
        outliers: non-music recordings, each (M, T_clip) with T_clip ≥ T, used as noise and
            as examples of none of the genres; may be empty.
        n_classes: C, number of genres.
        n_frames: T, frames of one crop.
        scaling: input normalisation of the checkpoint.
        config: composition of a batch.
        seed: random seed of all draws.
        device: device of the batches, "cpu", "cuda" or "mps".
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        outliers: Sequence[WindowValues],
        *,
        n_classes: int,
        n_frames: int,
        scaling: Scaling,
        config: BatchConfig,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self._clips = clips
        self._outliers = outliers
        self._n_classes = n_classes
        self._n_frames = n_frames
        self._scaling = scaling
        self._is_absolute = scaling.kind == "absolute"
        self._config = config
        self._seed = seed
        self._device = device
        self._weights = draw_weights(clips, config)

    def stream(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield batches `start` to `stop` − 1; see `draw_ahead`."""
        return draw_ahead(self.draw, start, stop)

    def draw(self, step: int) -> Batch:
        """Draw batch number `step`."""
        # numpy draws clips and crops on the CPU, torch what is computed on the device.
        rng = np.random.default_rng((self._seed, step))
        seed = int(rng.integers(2**63))
        generator = torch.Generator(self._device).manual_seed(seed)
        crops_db, target = self._crops(rng)
        if self._is_absolute:
            x = self._scaling.apply(crops_db.to(self._device))
            x, target = self._mix(x, target.to(self._device), rng)
            return Batch(step=step, seed=seed, x=x, target=target)
        augmentation = self._config.augment
        recordings_db = self._outlier_crops(len(crops_db), rng) if self._outliers else None
        crops_db = augment(
            crops_db.to(self._device),
            augmentation,
            generator,
            None if recordings_db is None else recordings_db.to(self._device),
        )
        x = self._scaling.scale_db(crops_db)[:, None]
        x, target = self._mix(x, target.to(self._device), rng)
        return Batch(step=step, seed=seed, x=x, target=target)

    def _crops(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """(N, M, T) crops and (N, C) targets: music first, then non-music."""
        config = self._config
        n_outliers = round(config.batch_size * config.outlier_ratio) if self._outliers else 0
        n_music = config.batch_size - n_outliers
        chosen = [self._clips[i] for i in rng.choice(len(self._clips), n_music, p=self._weights)]
        music = torch.stack([self._crop(clip.log_mel, rng) for clip in chosen])
        labels = torch.tensor([clip.label for clip in chosen])
        target = F.one_hot(labels, self._n_classes).float()
        if not n_outliers:
            return music, target
        uniform = torch.full((n_outliers, self._n_classes), 1 / self._n_classes)
        return torch.cat([music, self._outlier_crops(n_outliers, rng)]), torch.cat(
            [target, uniform]
        )

    def _outlier_crops(self, n: int, rng: np.random.Generator) -> Tensor:
        chosen = [self._outliers[i] for i in rng.integers(len(self._outliers), size=n)]
        return torch.stack([self._crop(log_mel, rng) for log_mel in chosen])

    def _crop(self, log_mel: WindowValues, rng: np.random.Generator) -> Tensor:
        """(M, T) float32: dB, or absolute levels."""
        if not self._is_absolute:
            return random_crop(log_mel, self._n_frames, self._config.augment, rng)
        start = int(rng.integers(0, log_mel.shape[1] - self._n_frames + 1))
        return torch.from_numpy(log_mel[:, start : start + self._n_frames].astype(np.float32))

    def _mix(self, x: Tensor, target: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Mix pairs of crops with one weight per pair (Zhang et al., mixup, 2018)."""
        alpha = self._config.mixup_alpha
        if not alpha:
            return x, target
        drawn = torch.from_numpy(rng.beta(alpha, alpha, len(x)).astype(np.float32)).to(x.device)
        # The larger share stays with the crop itself: x[i] remains at least half of mixed[i].
        weight = torch.maximum(drawn, 1 - drawn)[:, None]
        other = torch.from_numpy(rng.permutation(len(x))).to(x.device)
        mixed = weight[:, :, None, None] * x + (1 - weight)[:, :, None, None] * x[other]
        return mixed, weight * target + (1 - weight) * target[other]


def draw_ahead(draw: Callable[[int], Batch], start: int, stop: int) -> Iterator[Batch]:
    """Yield batches `start` to `stop` − 1; each is drawn while the previous one is in use."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        coming = pool.submit(draw, start)
        for step in range(start, stop):
            batch = coming.result()
            if step + 1 < stop:
                coming = pool.submit(draw, step + 1)
            yield batch


def draw_weights(clips: Sequence[Clip], config: BatchConfig) -> npt.NDArray[np.float64]:
    """(K,) probability with which each clip is drawn.

    A genre of n clips is drawn with weight n^balance, within it a collection of m clips with weight
    m^collection_balance, within it each clip alike.
    """
    genres = np.array([clip.label for clip in clips])
    parts = np.array([f"{clip.label} {clip.collection}" for clip in clips])
    _, part, sizes = np.unique(parts, return_inverse=True, return_counts=True)
    weights = sizes[part] ** (config.collection_balance - 1.0)
    for genre in np.unique(genres):
        chosen = genres == genre
        weights[chosen] *= chosen.sum() ** config.balance / weights[chosen].sum()
    return np.asarray(weights / weights.sum())
