"""From the uint8 windows that travel to the numbers that the model was trained on.

`standard` subtracts a fixed mean and divides by a fixed deviation, both in dB and stored in the
checkpoint. `min_max` maps each window's own range to [0, 1] (the guide's 2.3). `pcen` divides each
band by its own recent level instead of taking dB; see `pcen`. Any may be followed by a bilinear
resize to the model's input (the guide: 40 × 224 → 224 × 224).

Every number of a window comes from that window alone.
Shapes: N windows, M mel bands, T frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from acoustic.classify.pcen import pcen

ScalingKind = Literal["standard", "min_max", "pcen"]
PCEN_MEAN, PCEN_STD = 0.3, 0.3
"""Of PCEN over the default model's training windows, rounded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scaling:
    """Normalisation of log-mel windows.

    Attributes:
        kind: "standard", "min_max" or "pcen".
        mean_db: subtracted by "standard", dB.
        std_db: divides in "standard", dB, positive.
        top_db: depth of the dB scale that uint8 spans.
        resize_to: (height, width) after scaling, or None to keep (M, T).
    """

    kind: ScalingKind = "standard"
    mean_db: float = -40.0
    std_db: float = 20.0
    top_db: float = 80.0
    resize_to: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(ScalingKind):
            raise ValueError(f"unknown scaling {self.kind!r}")
        if self.std_db <= 0 or self.top_db <= 0:
            raise ValueError(f"std_db {self.std_db} and top_db {self.top_db} must be positive")

    def apply(self, windows: Tensor) -> Tensor:
        """Model input of uint8 windows.

        Args:
            windows: (N, M, T) uint8.

        Returns:
            (N, 1, height, width) float32, on the windows' device.
        """
        scaled = self.scale_db(windows.float() * (self.top_db / 255) - self.top_db)[:, None]
        if self.resize_to is None:
            return scaled
        return F.interpolate(scaled, self.resize_to, mode="bilinear", align_corners=False)

    def scale_db(self, windows_db: Tensor) -> Tensor:
        """Normalise (N, M, T) dB in [-top_db, 0], without the resize."""
        if self.kind == "standard":
            return (windows_db - self.mean_db) / self.std_db
        if self.kind == "pcen":
            return (pcen(windows_db) - PCEN_MEAN) / PCEN_STD
        low = windows_db.amin(dim=(1, 2), keepdim=True)
        high = windows_db.amax(dim=(1, 2), keepdim=True)
        return (windows_db - low) / torch.clamp(high - low, min=1e-6)
