"""Small untrained models and checkpoints for tests."""

from __future__ import annotations

from pathlib import Path

import torch

from acoustic.classify.checkpoint import save_checkpoint
from acoustic.classify.normalise import Scaling
from acoustic.classify.vit import VisionTransformer
from acoustic.classify.vit_config import VitConfig
from acoustic.geometry import MelConfig
from acoustic.labels import GENRES
from acoustic.pipeline import write_golden
from acoustic.postprocess.calibration import Calibration, WindowCalibration, save_calibration
from acoustic.postprocess.conformal import SET_METHODS
from acoustic.types import Descriptors

TINY = VitConfig(width=32, depth=2, heads=2, stem="linear", statistics=16)


DESCRIPTORS = Descriptors(
    tempo_bpm=120.0,
    tempo_confidence=0.5,
    beat_strength=0.5,
    low_frequency_ratio=0.1,
    vocal_proxy=0.3,
)


def tiny_model(config: VitConfig = TINY) -> VisionTransformer:
    """Model with seeded weights, spread so wide that different windows get different genres."""
    torch.manual_seed(7)
    model = VisionTransformer(config).eval()
    with torch.no_grad():
        model.head.weight.mul_(40)
    return model


def save_tiny_checkpoint(folder: Path) -> Path:
    manifest = save_checkpoint(
        folder,
        name="tiny",
        version="0",
        model=tiny_model(),
        labels=GENRES,
        mel=MelConfig(),
        scaling=Scaling(),
    )
    calibration = Calibration(
        windows={
            n: WindowCalibration(
                temperature=temperature,
                quantiles={method: {"0.50": 0.6, "0.90": 0.95} for method in SET_METHODS},
                review_threshold=0.5,
                scales={"energy": (-4.0, -2.0)},
                limits={"segment_disagreement": 0.2, "distance": 0.97},
                confidence_deciles=tuple(i / 10 for i in range(1, 10)),
            )
            for n, temperature in ((1, 1.5), (3, 1.2), (10, 1.0))
        },
        checkpoint_digest=manifest.digest,
        dataset="none",
        n_tracks=30,
        date="2026-01-01",
        review_accuracy=0.8,
    )
    save_calibration(folder, calibration)
    write_golden(folder)
    return folder
