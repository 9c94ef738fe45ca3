"""Training job from a data set to a checkpoint folder: build or load a model, train, save."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acoustic.checkpoint_folder import TRAINING_FILE
from acoustic.classify.checkpoint import Checkpoint, save_checkpoint
from acoustic.classify.normalise import Scaling
from acoustic.classify.vit import VARIANTS, VisionTransformer, VitConfig
from acoustic.data.dataset import Clip, Dataset
from acoustic.data.groups import group_hash
from acoustic.data.outliers import Outlier
from acoustic.errors import ConfigError
from acoustic.geometry import MelConfig
from acoustic.levels import STORED_TOP_DB, dequantise
from acoustic.training.batches import Batches
from acoustic.training.trainer import Recipe, Trainer
from acoustic.training.watch import STATE_FILE, Report, Watch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What to train and where to put it.

    Attributes:
        out: checkpoint folder to write.
        name: name of the model.
        version: version of its weights.
        variant: a name of VARIANTS; not used with `start_from`.
        mel: geometry, whose n_frames is the window; not used with `start_from`.
        start_from: checkpoint to fine-tune, or None.
        recipe: settings of the training.
        device: "cpu", "cuda" or "mps".
        resume: whether to continue from the state that an interrupted training left in `out`.
        known_groups: hashes of the groups that `start_from` was trained on.
    """

    out: Path
    name: str
    version: str
    variant: str
    mel: MelConfig
    start_from: Checkpoint | None
    recipe: Recipe
    device: str
    resume: bool = False
    known_groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.architecture(2)

    @property
    def geometry(self) -> MelConfig:
        """Geometry of the front end: that of the checkpoint to fine-tune, if there is one."""
        return self.start_from.manifest.mel if self.start_from else self.mel

    def architecture(self, n_classes: int) -> VitConfig:
        """Architecture of a new model with `n_classes` genres.

        Raises:
            ValueError: the variant cannot work on windows of this geometry.
        """
        return replace(
            VARIANTS[self.variant],
            input_height=self.mel.n_mels,
            input_width=self.mel.n_frames,
            n_classes=n_classes,
        )


def train_checkpoint(
    dataset: Dataset,
    outliers: Sequence[Outlier],
    job: Job,
    on_report: Callable[[Report], None] = lambda report: None,
) -> None:
    """Train a model, and write config.json, model.safetensors and training.json.

    Args:
        dataset: clips of both splits; the model is trained on train, only validated on valid.
        outliers: non-music recordings; may be empty.
        job: what to train, and where to write it.
        on_report: callback for progress reports, called about twenty times.

    Raises:
        ConfigError: too little data, a checkpoint that cannot be fine-tuned, a loss that is not
            finite, or a state that cannot be resumed.
    """
    train, valid = dataset.split("train"), dataset.split("valid")
    _refuse_untrainable(dataset, train)
    start = job.start_from
    if start:
        _refuse_other_front_end(start)
    mel = job.geometry
    scaling = start.scaling if start else fit_scaling(train)
    torch.manual_seed(job.recipe.seed)
    model = _model(job, len(dataset.labels), dataset.labels.names)
    batches = Batches(
        train,
        [outlier.log_mel for outlier in outliers],
        n_classes=len(dataset.labels),
        n_frames=mel.n_frames,
        scaling=scaling,
        config=job.recipe.batches,
        seed=job.recipe.seed,
        device=job.device,
    )
    trainer = Trainer(model, job.recipe, job.device)
    watch = Watch(trainer, scaling, valid, job.out, _data_digest(train, outliers), on_report)
    job.out.mkdir(parents=True, exist_ok=True)
    if job.resume:
        watch.load()
    else:
        watch.save()
    average = trainer.run(batches, watch)
    manifest = save_checkpoint(
        job.out,
        name=job.name,
        version=job.version,
        model=average,
        labels=dataset.labels,
        mel=mel,
        scaling=scaling,
        half=True,
    )
    facts = _facts(dataset, outliers, job, average, watch.history, watch.cpu_minutes)
    _write_json(job.out / TRAINING_FILE, facts)
    (job.out / STATE_FILE).unlink(missing_ok=True)
    logger.info("trained digest=%s cpu_minutes=%.1f", manifest.digest, watch.cpu_minutes)


def fit_scaling(clips: Sequence[Clip]) -> Scaling:
    """Fit the mean and standard deviation over the clips, dB relative to each clip's maximum."""
    # Every 50th value is enough for two moments, and bounds the memory for large libraries.
    sample = np.concatenate([clip.log_mel.ravel()[::50] for clip in clips])
    levels_db = dequantise(sample.astype(np.float64), STORED_TOP_DB)
    return Scaling(
        mean_db=round(float(levels_db.mean()), 2), std_db=round(float(levels_db.std()), 2)
    )


def _data_digest(train: Sequence[Clip], outliers: Sequence[Outlier]) -> str:
    """Digest of all training data, so that a training is only resumed on its own data."""
    digest = hashlib.sha256()
    for clip in train:
        digest.update(f"{clip.label} {clip.log_mel.shape}".encode())
        digest.update(clip.log_mel.tobytes())
    for outlier in outliers:
        digest.update(str(outlier.log_mel.shape).encode())
        digest.update(outlier.log_mel.tobytes())
    return digest.hexdigest()


def _model(job: Job, n_classes: int, names: tuple[str, ...]) -> VisionTransformer:
    if job.start_from is None:
        return VisionTransformer(job.architecture(n_classes))
    known = job.start_from
    if known.manifest.labels.names == names:
        return known.model
    # Other genres: the layers with C outputs start from random values; all others keep their
    # weights.
    model = VisionTransformer(replace(known.model.config, n_classes=n_classes))
    of_classes = ("head.", "statistics.fc2.")
    state = {k: v for k, v in known.model.state_dict().items() if not k.startswith(of_classes)}
    model.load_state_dict(state, strict=False)
    return model


def _refuse_other_front_end(start: Checkpoint) -> None:
    """Reject a checkpoint whose windows are resized or do not span 80 dB, as clips here do."""
    if start.scaling.resize_to is not None or start.manifest.mel.top_db != STORED_TOP_DB:
        raise ConfigError(
            f"{start.manifest.name} cannot be fine-tuned: its windows are resized, or reach down "
            f"to {start.manifest.mel.top_db:g} dB instead of {STORED_TOP_DB:g}"
        )


def _refuse_untrainable(dataset: Dataset, train: Sequence[Clip]) -> None:
    learned = {clip.label for clip in train}
    empty = [name for i, name in enumerate(dataset.labels.names) if i not in learned]
    if empty:
        raise ConfigError(f"no train recording of {', '.join(empty)}: each genre needs one")


def _facts(
    dataset: Dataset,
    outliers: Sequence[Outlier],
    job: Job,
    model: VisionTransformer,
    history: list[dict[str, Any]],
    cpu_minutes: float,
) -> dict[str, Any]:
    return {
        "variant": job.variant if job.start_from is None else "fine-tuned",
        "started_from": job.start_from.manifest.digest if job.start_from else None,
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "recipe": asdict(job.recipe),
        "clips": dataset.counts("train"),
        "n_valid": len(dataset.split("valid")),
        "train_groups": sorted(
            {group_hash(clip.group) for clip in dataset.split("train")} | set(job.known_groups)
        ),
        "n_outliers": len(outliers),
        "skipped": [asdict(each) for each in dataset.skipped],
        "device": job.device,
        "n_threads": torch.get_num_threads(),
        "cpu_minutes": round(cpu_minutes, 1),
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
        "history": history,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
