"""Linear probe: the features of a frozen model once, then a new head in seconds.

Source: Alain and Bengio, Understanding Intermediate Layers Using Linear Classifier Probes (2016).
Shapes: R windows, D features, C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acoustic.classify.checkpoint import Checkpoint
from acoustic.classify.engine import Engine
from acoustic.classify.engine_config import Accelerator, EngineConfig
from acoustic.classify.vit import VisionTransformer
from acoustic.data.dataset import Clip
from acoustic.data.windows import cut_windows
from acoustic.errors import ConfigError
from acoustic.training.batches import BatchConfig, draw_weights
from acoustic.training.linear_head import fit_linear_head

logger = logging.getLogger(__name__)

N_WINDOWS = 3
"""Windows per clip: as many as effort balanced evaluates."""

BATCHES = BatchConfig(balance=0.75, collection_balance=0.75)
REPORT_EVERY = 50


def fit_probe(
    start: Checkpoint,
    clips: Sequence[Clip],
    n_classes: int,
    *,
    penalty: float,
    accelerator: Accelerator,
    n_threads: int,
) -> VisionTransformer:
    """A model with the weights of another and a new head, fitted to labelled clips.

    Args:
        start: the frozen model.
        clips: K labelled clips.
        n_classes: C, number of genres.
        penalty: weight of half the squared size of the head, against the mean cross-entropy, nats.
        accelerator: where the features are computed.
        n_threads: CPU threads.

    Returns:
        The model in evaluation mode, float32, on the CPU.

    Raises:
        ConfigError: the model has heads of other kinds too, or features that are not finite.
    """
    config = start.model.config
    if start.model.tags is not None or start.model.statistics is not None:
        raise ConfigError(
            f"{start.manifest.name} has two heads: a probe is for models whose one head is on "
            "their pooled tokens; train without --probe"
        )
    state = {k: v.clone() for k, v in start.model.state_dict().items()}
    features, labels, weights = _features(start, clips, accelerator, n_threads)
    head = nn.Linear(config.width, n_classes)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    mean, deviation = features.mean(dim=0), features.std(dim=0).clamp(min=1e-4)
    target = F.one_hot(labels, n_classes).float()
    fit_linear_head(head, (features - mean) / deviation, target, weights, penalty)
    model = VisionTransformer(replace(config, n_classes=n_classes, head_norm=False))
    kept = {k: v for k, v in state.items() if not k.startswith(("head.", "head_norm."))}
    # the standardisation is part of the head: W (x - m) / s + b
    weight = head.weight.detach() / deviation
    kept["head.weight"], kept["head.bias"] = weight, head.bias.detach() - weight @ mean
    model.load_state_dict(kept)
    return model.eval()


def freeze(model: VisionTransformer, n_blocks: int) -> None:
    """Leave only the last blocks, the norm after them and the heads to be trained.

    Args:
        model: changed in place.
        n_blocks: number of blocks that are trained, up to all.

    Raises:
        ConfigError: the model has fewer blocks.
    """
    if n_blocks > len(model.blocks):
        raise ConfigError(f"the model has {len(model.blocks)} blocks, fewer than {n_blocks}")
    model.requires_grad_(False)
    heads = (model.norm, model.head_norm, model.head, model.statistics, model.tags)
    for part in (*model.blocks[len(model.blocks) - n_blocks :], *heads):
        if part is not None:
            part.requires_grad_(True)


def _features(
    start: Checkpoint, clips: Sequence[Clip], accelerator: Accelerator, n_threads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(R, D) features, (R,) labels and (R,) weights of the windows of all clips."""
    mel = start.manifest.mel
    engine = Engine(
        start.model,
        start.scaling,
        (mel.n_mels, mel.n_frames),
        EngineConfig(accelerator=accelerator, n_threads=n_threads),
    )
    of_clips = []
    for i, clip in enumerate(clips):
        n = 1 if clip.log_mel.shape[1] <= mel.n_frames else N_WINDOWS
        of_clips.append(engine.outputs(cut_windows(clip.log_mel, mel.n_frames, n)).features)
        if (i + 1) % REPORT_EVERY == 0:
            logger.info("features of %d of %d recordings", i + 1, len(clips))
    engine.close()
    counts = np.array([len(each) for each in of_clips])
    labels = np.repeat([clip.label for clip in clips], counts)
    weights = np.repeat(draw_weights(clips, BATCHES) / counts, counts)
    return (
        torch.from_numpy(np.concatenate(of_clips)),
        torch.from_numpy(labels),
        torch.from_numpy(weights.astype(np.float32)),
    )
