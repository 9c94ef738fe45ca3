"""Normalisation: log-mel windows → float32 model input.

`standard` subtracts a fixed mean and divides by a fixed deviation, both in dB and stored in the
checkpoint. `log_magnitude` is ln(magnitude + offset), the input of AudioSet's models, with the
loudest value of a window at a fixed level. `min_max` maps each window's own range to [0, 1] (the
guide's 2.3). `absolute` subtracts a mean and divides by a deviation, both in the unit of a front
end of absolute levels. Each may be followed by a bilinear resize to the model's input (the guide:
40 × 224 → 224 × 224).

Every number of a window depends on that window only.
Shapes: N windows, M mel bands, T frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from acoustic.levels import dequantise

ScalingKind = Literal["standard", "min_max", "log_magnitude", "absolute"]
NEPERS_PER_DB = math.log(10) / 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Scaling:
    """Settings of the normalisation of log-mel windows, and its arithmetic.

    Attributes:
        kind: "standard", "min_max", "log_magnitude" or "absolute".
        mean_db: mean that "standard" subtracts, dB.
        std_db: standard deviation that "standard" divides by, dB, positive.
        top_db: dB range that uint8 spans: 0 is -top_db, 255 is 0 dB; positive.
        peak: natural logarithm of the loudest magnitude of a window, of "log_magnitude".
        offset: what "log_magnitude" adds to magnitudes, positive.
        mean: mean that "absolute" subtracts, in the unit of the front end.
        std: what "absolute" divides by, in the same unit, positive.
        resize_to: (height, width) of the model input, or None to keep (M, T).
    """

    kind: ScalingKind = "standard"
    mean_db: float = -40.0
    std_db: float = 20.0
    top_db: float = 80.0
    peak: float = 0.0
    offset: float = 0.0
    mean: float = 0.0
    std: float = 1.0
    resize_to: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(ScalingKind):
            raise ValueError(
                f"scaling kind is {self.kind!r}, known are {', '.join(get_args(ScalingKind))}"
            )
        if self.std_db <= 0 or self.top_db <= 0:
            raise ValueError(f"std_db {self.std_db} and top_db {self.top_db} dB must be positive")
        if self.std <= 0:
            raise ValueError(f"std is {self.std}, must be positive")
        if self.kind == "log_magnitude" and self.offset <= 0:
            raise ValueError(f"offset is {self.offset}, must be positive")

    def apply(self, windows: Tensor) -> Tensor:
        """Convert windows to model input.

        Args:
            windows: (N, M, T) uint8; of "absolute" floating-point.

        Returns:
            (N, 1, height, width) float32, on the windows' device.
        """
        if self.kind == "absolute":
            scaled = (windows.float() - self.mean) / self.std
        else:  # uint8 0 … 255 → dB -top_db … 0
            scaled = self.scale_db(dequantise(windows.float(), self.top_db))
        scaled = scaled[:, None]  # the single input channel
        if self.resize_to is None:
            return scaled
        return F.interpolate(scaled, self.resize_to, mode="bilinear", align_corners=False)

    def scale_db(self, windows_db: Tensor) -> Tensor:
        """Normalise (N, M, T) dB in [-top_db, 0], without the resize."""
        if self.kind == "standard":
            return (windows_db - self.mean_db) / self.std_db
        if self.kind == "log_magnitude":
            return torch.log(torch.exp(windows_db * NEPERS_PER_DB + self.peak) + self.offset)
        low = windows_db.amin(dim=(1, 2), keepdim=True)
        high = windows_db.amax(dim=(1, 2), keepdim=True)
        # 1e-6 dB: a constant window becomes 0, not NaN
        return (windows_db - low) / torch.clamp(high - low, min=1e-6)
