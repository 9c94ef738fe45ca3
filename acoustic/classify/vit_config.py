"""The architectures: what a Vision Transformer is made of, and the known sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from acoustic.classify import mobilenet
from acoustic.classify.statistics import MIN_FRAMES, N_BANDS
from acoustic.classify.stems import STEMS, Stem
from acoustic.classify.trunk_windows import BOTH, YAMNET

Pool = Literal["cls", "cls_distill", "mean"]
N_PREFIX: dict[Pool, int] = {"cls": 1, "cls_distill": 2, "mean": 0}
"""Tokens before the patches: class token and distillation token."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VitConfig:
    """Architecture of a VisionTransformer, stored in the checkpoint's config.json.

    Attributes:
        input_height: rows of the input, after any resize (M for a plain spectrogram).
        input_width: columns of the input, after any resize (T for a plain spectrogram).
        patch_size: side of a square patch; without strides, both input sides are multiples of it.
        patch_strides: rows and columns between the starts of two patches of a linear stem; None for
            the patch size. Patches that do not fit are left out.
        width: D, numbers per token.
        depth: number of transformer blocks; 0 pools the tokens of the stem.
        heads: number of attention heads per block, a divisor of D.
        mlp_ratio: hidden width of the MLP divided by D.
        stem: how patches become tokens: "linear", "residual" or "mobilenet"; see `stems`. The last
            has a second head on its trunk's maps.
        pool: how tokens become one vector: "cls" (class token), "cls_distill" (mean of class and
            distillation token, as in DeiT and AST) or "mean" (over the patches).
        head_norm: whether a layer norm of its own comes before the head, as in AST.
        segment_frames: frames that the trunk of a mobilenet stem convolves together, a divisor of
            input_width; None for the whole window, as in models before 0.4.
        musicnn: whether a second pre-trained trunk, musicnn, listens to the same windows; they are
            those of `trunk_windows.BOTH` then. Needs a mobilenet stem.
        statistics: hidden width of the head on window statistics; 0 for no such head.
        n_classes: C, number of genres.
        layer_norm_eps: epsilon of the layer norms: 1e-6 in timm and torchvision, 1e-12 in
            transformers.
    """

    input_height: int = 128
    input_width: int = 144
    patch_size: int = 16
    width: int = 192
    depth: int = 6
    heads: int = 3
    mlp_ratio: float = 4.0
    stem: Stem = "residual"
    pool: Pool = "mean"
    statistics: int = 0
    n_classes: int = 16
    layer_norm_eps: float = 1e-6
    patch_strides: tuple[int, int] | None = None
    head_norm: bool = False
    segment_frames: int | None = None
    musicnn: bool = False

    def __post_init__(self) -> None:
        if self.patch_strides is not None:  # JSON has lists
            object.__setattr__(self, "patch_strides", tuple(self.patch_strides))
            self._check_strides(self.patch_strides)
        sizes = (self.patch_size, self.width, self.heads, self.n_classes)
        if min(*sizes, self.input_height, self.input_width) < 1 or self.depth < 0:
            raise ValueError(f"every size must be positive: {self}")
        is_multiple = not (
            self.input_height % self.patch_size or self.input_width % self.patch_size
        )
        if self.patch_strides is None and not is_multiple:
            raise ValueError(
                f"input {self.input_height} x {self.input_width} is not a multiple of the patch "
                f"size {self.patch_size}"
            )
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of the {self.heads} heads")
        if self.stem not in STEMS or self.pool not in N_PREFIX:
            raise ValueError(
                f"stem is {self.stem!r} and pool {self.pool!r}, known are {', '.join(STEMS)} and "
                f"{', '.join(N_PREFIX)}; release 0.2.0 also had conv: train it again"
            )
        if self.stem != "linear" and self.patch_size & (self.patch_size - 1):
            raise ValueError(
                f"{self.stem} stems need a power-of-two patch size, got {self.patch_size}"
            )
        if self.stem == "residual" and self.patch_size < 4:
            raise ValueError(f"a residual stem needs a patch size ≥ 4, got {self.patch_size}")

        if self.musicnn and (self.stem != "mobilenet" or self.input_height != BOTH.n_mels):
            raise ValueError(
                f"musicnn needs a mobilenet stem and {BOTH.n_mels} bands, got a {self.stem} stem "
                f"and {self.input_height}"
            )
        self._check_segments()
        if self.statistics < 0:
            raise ValueError(f"statistics is {self.statistics}, must be 0 or a positive width")
        if self.statistics and (self.input_height % N_BANDS or self.input_width < MIN_FRAMES):
            raise ValueError(
                f"window statistics need a multiple of {N_BANDS} bands and "
                f"at least {MIN_FRAMES} frames, got "
                f"{self.input_height} x {self.input_width}"
            )

    def _check_segments(self) -> None:
        frames = self.segment_frames
        if frames is None:
            return
        if self.stem != "mobilenet" or frames < 1 or self.input_width % frames:
            raise ValueError(
                f"segment_frames is {frames} with a {self.stem} stem and {self.input_width} "
                "frames: it must be a divisor of the frames, and needs a mobilenet stem"
            )
        if frames % self.patch_size:
            raise ValueError(
                f"segment_frames is {frames}, not a multiple of the patch size {self.patch_size}"
            )

    def _check_strides(self, strides: tuple[int, int]) -> None:
        if self.stem != "linear" or min(strides) < 1:
            raise ValueError(
                f"patch_strides are {strides} with a {self.stem} stem: they must be positive, and "
                "need a linear stem"
            )
        if min(self.input_height, self.input_width) < self.patch_size:
            raise ValueError(
                f"input {self.input_height} x {self.input_width} is smaller than a patch of "
                f"{self.patch_size}"
            )

    @property
    def n_patches(self) -> int:
        """P, tokens of one window without the class and distillation tokens."""
        down, right = self.patch_strides or (self.patch_size, self.patch_size)
        height = YAMNET.n_mels if self.musicnn else self.input_height
        rows = (height - self.patch_size) // down + 1
        return rows * ((self.input_width - self.patch_size) // right + 1)


_LINEAR_CLS = VitConfig(stem="linear", pool="cls")
_HYBRID = VitConfig(
    input_height=YAMNET.n_mels,
    input_width=YAMNET.n_frames,
    patch_size=mobilenet.PATCH_SIZE,
    width=192,
    depth=2,
    heads=3,
    stem="mobilenet",
    segment_frames=mobilenet.SEGMENT_FRAMES,
)

VARIANTS: dict[str, VitConfig] = {
    "vit_nano": VitConfig(width=192, depth=6, heads=3, stem="residual", statistics=256),
    "vit_tiny": VitConfig(width=192, depth=12, heads=3, stem="residual", statistics=256),
    "vit_hybrid": _HYBRID,
    "vit_hybrid_musicnn": replace(
        _HYBRID, input_height=BOTH.n_mels, input_width=BOTH.n_frames, musicnn=True
    ),
    "vit_small": VitConfig(width=384, depth=12, heads=6, stem="residual", statistics=256),
    "vit_b_16": replace(_LINEAR_CLS, width=768, depth=12, heads=12),
}
"""Known sizes. nano to small are for small data: a residual stem and a head on statistics; hybrid
has a pre-trained trunk and its own front end, hybrid_musicnn two trunks; vit_b_16 is the paper's
ViT-B/16."""
