"""The floor that a model must clear: multinomial logistic regression on band statistics.

Features are the mean and the standard deviation of each mel band over the clip, standardised on
the training clips. Shapes: K clips, M mel bands, C classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from acoustic.training.dataset import Clip

L2_PENALTY = 1e-2
N_ITERATIONS = 200


def linear_probe(train: list[Clip], valid: list[Clip], n_classes: int) -> npt.NDArray[np.int64]:
    """Genres that the probe, fitted on `train`, gives the clips of `valid`.

    Args:
        train: clips to fit on.
        valid: clips to predict.
        n_classes: C.

    Returns:
        (K,) class indices.
    """
    features, targets = _statistics(train), torch.tensor([clip.label for clip in train])
    mean, std = features.mean(dim=0), features.std(dim=0) + 1e-6
    x = (features - mean) / std
    weight = torch.zeros(x.shape[1], n_classes, requires_grad=True)
    bias = torch.zeros(n_classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=N_ITERATIONS)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(x @ weight + bias, targets) + L2_PENALTY * weight.square().sum() / 2
        torch.autograd.backward(loss)
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        scores = (_statistics(valid) - mean) / std @ weight + bias
    return scores.argmax(dim=1).numpy()


def _statistics(clips: list[Clip]) -> torch.Tensor:
    """(K, 2 M) float32: mean and deviation of each band, in uint8 steps."""
    rows = [np.concatenate([clip.log_mel.mean(axis=1), clip.log_mel.std(axis=1)]) for clip in clips]
    return torch.from_numpy(np.stack(rows).astype(np.float32))
