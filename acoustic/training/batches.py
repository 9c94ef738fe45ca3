"""Batches of augmented, mixed crops: batch number k is a function of the seed and k alone.

So an interrupted training takes up at any step without stored generators, and the next batch
can be drawn on another thread while the model works on this one.

Shapes: N crops, M mel bands, T frames, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from acoustic.classify.scaling import Scaling
from acoustic.training.augment import AugmentConfig, augment, random_crop
from acoustic.training.dataset import Clip


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Input and target of one step.

    Attributes:
        step: its number.
        seed: drawn from the training's seed and the step, for what else is random in this step.
        x: (N, 1, M, T) float32, normalised.
        target: (N, C) float32, rows sum to 1.
    """

    step: int
    seed: int
    x: Tensor
    target: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchConfig:
    """How batches are made up.

    Attributes:
        batch_size: N.
        balance: classes are drawn with their clip count to this power: 1 as they come, 0 equal.
        mixup_alpha: of the Beta distribution; 0 is off.
        outlier_ratio: share of crops that are no music, when there are such recordings; their
            target is the uniform distribution (Hendrycks et al., Deep Anomaly Detection with
            Outlier Exposure, 2019).
        augment: strengths.
    """

    batch_size: int = 48
    balance: float = 0.5
    mixup_alpha: float = 0.4
    outlier_ratio: float = 0.1
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ValueError(f"batch_size is {self.batch_size}, at least 2 are needed")
        if not 0 <= self.outlier_ratio < 1:
            raise ValueError(f"outlier_ratio is {self.outlier_ratio}, limits are 0 to below 1")


class Batches:
    """Draws the batches of one training.

    Args:
        clips: training clips.
        outliers: (M, T_clip) uint8 each, T_clip ≥ T: recordings that are no music, used as noise
            and as examples of none of the genres; may be empty.
        n_classes: C.
        n_frames: T.
        scaling: normalisation of the checkpoint.
        config: composition.
        seed: of everything random.
        device: where batches are wanted.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        outliers: Sequence[npt.NDArray[np.uint8]],
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
        self._config = config
        self._seed = seed
        self._device = device
        labels = np.array([clip.label for clip in clips])
        counts = np.bincount(labels, minlength=n_classes)
        weights = counts[labels] ** (config.balance - 1.0)
        self._weights = weights / weights.sum()

    def stream(self, start: int, stop: int) -> Iterator[Batch]:
        """Batches `start` to `stop` − 1, each drawn while its predecessor is in use."""
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
            coming = pool.submit(self.draw, start)
            for step in range(start, stop):
                batch = coming.result()
                if step + 1 < stop:
                    coming = pool.submit(self.draw, step + 1)
                yield batch

    def draw(self, step: int) -> Batch:
        """Batch number `step`."""
        rng = np.random.default_rng((self._seed, step))
        seed = int(rng.integers(2**63))
        generator = torch.Generator(self._device).manual_seed(seed)
        crops_db, target = self._crops(rng)
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
        """(N, M, T) dB and (N, C): music first, then what is none."""
        config = self._config
        n_outliers = round(config.batch_size * config.outlier_ratio) if self._outliers else 0
        n_music = config.batch_size - n_outliers
        chosen = [self._clips[i] for i in rng.choice(len(self._clips), n_music, p=self._weights)]
        music = torch.stack(
            [random_crop(c.log_mel, self._n_frames, config.augment, rng) for c in chosen]
        )
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
        return torch.stack(
            [random_crop(mel, self._n_frames, self._config.augment, rng) for mel in chosen]
        )

    def _mix(self, x: Tensor, target: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Zhang et al., mixup (2018), with one weight per pair."""
        alpha = self._config.mixup_alpha
        if not alpha:
            return x, target
        drawn = torch.from_numpy(rng.beta(alpha, alpha, len(x)).astype(np.float32)).to(x.device)
        weight = torch.maximum(drawn, 1 - drawn)[:, None]
        other = torch.from_numpy(rng.permutation(len(x))).to(x.device)
        mixed = weight[:, :, None, None] * x + (1 - weight)[:, :, None, None] * x[other]
        return mixed, weight * target + (1 - weight) * target[other]
