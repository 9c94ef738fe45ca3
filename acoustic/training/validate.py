"""Validation accuracy and logits of a model on clips, from evenly spread windows.

Shapes: S windows of one clip, M mel bands, T frames, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from acoustic.classify.normalise import Scaling
from acoustic.classify.vit import VisionTransformer
from acoustic.data.dataset import Clip
from acoustic.data.windows import cut_windows
from acoustic.types import WindowValues

Logits = npt.NDArray[np.float32]


def clip_logits(
    forward: Callable[[WindowValues], Logits],
    clips: Iterable[Clip],
    n_frames: int,
    n_windows: int,
) -> list[Logits]:
    """(S, C) logits of every clip; `forward` maps (S, M, T) to them."""
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
    """Accuracy on clips by the mean probability of their windows, in [0, 1].

    Args:
        model: model in evaluation mode, on `device`.
        scaling: normalisation of the model's input.
        clips: labelled clips, at least one.
        device: device of the model, "cpu", "cuda" or "mps".
        precision: arithmetic, "bf16" or "fp32".
        n_windows: windows evaluated per clip.
    """
    n_frames = model.config.input_width

    def forward(windows: WindowValues) -> Logits:
        x = scaling.apply(torch.from_numpy(windows).to(device))
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            logits = model(x)
        return np.asarray(logits.softmax(dim=1).mean(dim=0, keepdim=True).float().cpu().numpy())

    with torch.inference_mode():
        found = clip_logits(forward, clips, n_frames, n_windows)
    correct = [p.argmax() == clip.label for p, clip in zip(found, clips, strict=True)]
    return float(np.mean(correct))
