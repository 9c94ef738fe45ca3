"""Logits of a model on whole clips, heard through evenly spread windows.

Shapes: S windows of one clip, M mel bands, T frames, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from acoustic.classify.scaling import Scaling
from acoustic.classify.vit import VisionTransformer
from acoustic.training.dataset import Clip

Logits = npt.NDArray[np.float32]


def cut_windows(
    log_mel: npt.NDArray[np.uint8], n_frames: int, n_windows: int
) -> npt.NDArray[np.uint8]:
    """Windows spread as the service spreads them, each renormalised to its own maximum.

    Args:
        log_mel: (M, T_clip) uint8 with T_clip ≥ n_frames.
        n_frames: T.
        n_windows: S.

    Returns:
        (S, M, T) uint8.
    """
    slack = log_mel.shape[1] - n_frames
    starts = [round((i + 0.5) / n_windows * slack) for i in range(n_windows)]
    windows = np.stack([log_mel[:, start : start + n_frames] for start in starts])
    return np.asarray(windows + (255 - windows.max(axis=(1, 2), keepdims=True)))


def clip_logits(
    forward: Callable[[npt.NDArray[np.uint8]], Logits],
    clips: Iterable[Clip],
    n_frames: int,
    n_windows: int,
) -> list[Logits]:
    """(S, C) logits of every clip; `forward` maps (S, M, T) uint8 to them."""
    return [forward(cut_windows(clip.log_mel, n_frames, n_windows)) for clip in clips]


def validation_accuracy(
    model: VisionTransformer,
    scaling: Scaling,
    clips: Sequence[Clip],
    *,
    device: str,
    precision: str,
    n_windows: int = 3,
) -> float:
    """Share of clips whose genre the mean probability of their windows names.

    Args:
        model: in evaluation mode, on `device`.
        scaling: normalisation of its input.
        clips: at least one.
        device: where the model is.
        precision: "bf16" or "fp32".
        n_windows: windows heard per clip.
    """
    n_frames = model.config.input_width

    def forward(windows: npt.NDArray[np.uint8]) -> Logits:
        x = scaling.apply(torch.from_numpy(windows).to(device))
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            logits = model(x)
        return np.asarray(logits.softmax(dim=1).mean(dim=0, keepdim=True).float().cpu().numpy())

    with torch.inference_mode():
        found = clip_logits(forward, clips, n_frames, n_windows)
    correct = [p.argmax() == clip.label for p, clip in zip(found, clips, strict=True)]
    return float(np.mean(correct))
