"""Training job from a data set to a checkpoint folder: build or load a model, train, save."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acoustic.checkpoint_folder import TRAINING_FILE
from acoustic.classify.checkpoint import Checkpoint, save_checkpoint
from acoustic.classify.engine_config import Accelerator
from acoustic.classify.normalise import Scaling
from acoustic.classify.vit import VisionTransformer
from acoustic.classify.vit_config import VARIANTS, VitConfig
from acoustic.data.dataset import Clip, Dataset
from acoustic.data.groups import group_hash
from acoustic.data.outliers import Outlier
from acoustic.data.sources import LogMel
from acoustic.errors import ConfigError
from acoustic.geometry import MelConfig
from acoustic.labels import LabelSet
from acoustic.levels import STORED_TOP_DB, dequantise
from acoustic.training.batches import Batches
from acoustic.training.hybrid import prepare_hybrid
from acoustic.training.probe import fit_probe, freeze
from acoustic.training.trainer import Recipe, Stream, Trainer
from acoustic.training.trunk import FRONTS
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
        trunk: weights of the pre-trained trunks, by name, for the variants of `trunk.FRONTS`.
        recipe: settings of the training.
        device: "cpu", "cuda" or "mps".
        probe: whether to fit only a new head on the features of `start_from`.
        unfreeze: number of last blocks that are trained, after the probe if there is one; None for
            all.
        n_threads: CPU threads of the probe.
        resume: whether to continue from the state that an interrupted training left in `out`.
        known_groups: hashes of the groups that `start_from` was trained on.
        known_collections: hashes of the collections that `start_from` was trained on.
    """

    out: Path
    name: str
    version: str
    variant: str
    mel: MelConfig
    start_from: Checkpoint | None
    recipe: Recipe
    device: Accelerator
    probe: bool = False
    unfreeze: int | None = None
    n_threads: int = 1
    resume: bool = False
    known_groups: tuple[str, ...] = ()
    known_collections: tuple[str, ...] = ()
    trunk: Mapping[str, Tensor] | None = None

    def __post_init__(self) -> None:
        is_hybrid = self.architecture(2).stem == "mobilenet"
        if is_hybrid and self.start_from is None and self.trunk is None:
            raise ValueError(f"{self.variant} needs the weights of a trunk")
        if (self.probe or self.unfreeze is not None) and self.start_from is None:
            raise ValueError("a probe, and frozen blocks, need a checkpoint to start from")

    @property
    def is_only_probe(self) -> bool:
        """Whether nothing is trained after the probe."""
        return self.probe and not self.unfreeze

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
    scaling = start.scaling if start else _scaling(job, train)
    torch.manual_seed(job.recipe.seed)
    job.out.mkdir(parents=True, exist_ok=True)
    begun_cpu_s = time.process_time()
    model = _model(job, train, dataset.labels)
    if job.is_only_probe:
        history, cpu_minutes = [], (time.process_time() - begun_cpu_s) / 60
    else:
        batches = _batches(job, model, dataset, [each.log_mel for each in outliers], scaling)
        trainer = Trainer(model, job.recipe, job.device)
        watch = Watch(trainer, scaling, valid, job.out, _data_digest(train, outliers), on_report)
        if job.resume:
            watch.load()
        else:
            watch.save()
        model = trainer.run(batches, watch)
        history, cpu_minutes = watch.history, watch.cpu_minutes
    manifest = save_checkpoint(
        job.out,
        name=job.name,
        version=job.version,
        model=model,
        labels=dataset.labels,
        mel=mel,
        scaling=scaling,
        half=True,
        source=start.manifest.source if start else None,
    )
    facts = _facts(dataset, outliers, job, model, history, cpu_minutes)
    _write_json(job.out / TRAINING_FILE, facts)
    (job.out / STATE_FILE).unlink(missing_ok=True)
    logger.info("trained digest=%s cpu_minutes=%.1f", manifest.digest, cpu_minutes)


def _batches(
    job: Job,
    model: VisionTransformer,
    dataset: Dataset,
    outliers: Sequence[LogMel],
    scaling: Scaling,
) -> Stream:
    recipe, train = job.recipe, dataset.split("train")
    if model.tags is not None:
        return prepare_hybrid(
            model, train, outliers, dataset.labels, scaling=scaling, recipe=recipe,
            is_new=job.start_from is None, device=job.device,
        )  # fmt: skip
    return Batches(
        train,
        outliers,
        n_classes=model.config.n_classes,
        n_frames=model.config.input_width,
        scaling=scaling,
        config=recipe.batches,
        seed=recipe.seed,
        device=job.device,
    )


def _scaling(job: Job, train: Sequence[Clip]) -> Scaling:
    # a pre-trained trunk has its own input
    return fit_scaling(train) if job.trunk is None else FRONTS[job.variant].scaling


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


def _model(job: Job, train: Sequence[Clip], labels: LabelSet) -> VisionTransformer:
    """The model to train: a new one, one that exists, or a probe of it."""
    if job.start_from is None:
        model = VisionTransformer(job.architecture(len(labels)))
        if job.trunk is not None:
            model.load_state_dict(dict(job.trunk), strict=False)
        return model
    if job.probe:
        model = fit_probe(
            job.start_from,
            train,
            len(labels),
            penalty=job.recipe.hybrid.penalty,
            accelerator=job.device,
            n_threads=job.n_threads,
        )
    else:
        model = _with_genres(job.start_from, labels)
    if job.unfreeze is not None:
        freeze(model, job.unfreeze)
    return model


def _with_genres(known: Checkpoint, labels: LabelSet) -> VisionTransformer:
    n_classes = len(labels)
    if known.manifest.labels.names == labels.names and known.styles is None:
        return known.model
    # Other genres: the layers with C outputs start from random values; all others keep their
    # weights.
    model = VisionTransformer(replace(known.model.config, n_classes=n_classes))
    of_classes = ("head.", "statistics.fc2.", "tags.head.")
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


def _how(job: Job) -> str:
    if job.start_from is None:
        return job.variant
    return "probe" if job.is_only_probe else "fine-tuned"


def _facts(
    dataset: Dataset,
    outliers: Sequence[Outlier],
    job: Job,
    model: VisionTransformer,
    history: list[dict[str, Any]],
    cpu_minutes: float,
) -> dict[str, Any]:
    return {
        "variant": _how(job),
        "started_from": job.start_from.manifest.digest if job.start_from else None,
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "recipe": asdict(job.recipe),
        "clips": dataset.counts("train"),
        "n_valid": len(dataset.split("valid")),
        "train_groups": sorted(
            {group_hash(clip.group) for clip in dataset.split("train")} | set(job.known_groups)
        ),
        "train_collections": sorted(
            {group_hash(clip.collection) for clip in dataset.split("train")}
            | set(job.known_collections)
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
