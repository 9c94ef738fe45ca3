"""Layers whose result for a window has the same digits whatever else is in the batch.

A matrix product picks another kernel for another batch size, and its sums run in another order.

Shapes: N windows, D features, K outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def is_eager_on_cpu(x: Tensor) -> bool:
    """Whether a tensor is computed at once, on a CPU: not traced, compiled or exported."""
    is_traced = torch.compiler.is_compiling() or bool(torch._C._is_tracing())
    return x.device.type == "cpu" and not is_traced and not torch.compiler.is_exporting()


def linear(x_ND: Tensor, layer: nn.Linear) -> Tensor:
    """(N, K) float32 of a linear layer with few outputs, as products and a sum."""
    products = x_ND.float()[:, None, :] * layer.weight.float()
    return products.sum(dim=-1) + layer.bias.float()


def wide_linear(x_ND: Tensor, layer: nn.Linear) -> Tensor:
    """(N, K) float32 of a linear layer with many outputs, as one product per window."""
    weights = layer.weight.float()
    if torch.compiler.is_exporting():  # a loop over rows would keep their number
        return x_ND.float() @ weights.T + layer.bias.float()
    return torch.stack([weights @ row for row in x_ND.float()]) + layer.bias.float()


def standardised(x_ND: Tensor, norm: nn.BatchNorm1d) -> Tensor:
    """(N, D) float32 of a batch norm without weights; its buffers may be in half precision."""
    if norm.training:
        out: Tensor = norm(x_ND)
        return out
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    return (x_ND - mean.float()) / (variance.float() + norm.eps).sqrt()
