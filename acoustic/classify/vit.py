"""Vision Transformer over a log-mel window.

- one input channel, any patch grid, learned position embedding per patch;
- linear patch embedding, or for small data sets a stem of residual convolutions or of a pre-trained
  convolutional trunk;
- optionally a second head, for small data sets: on the window's statistics, or on the trunk's maps;
- fused qkv, scaled_dot_product_attention, exact (erf) GELU, pre-norm blocks;
- parameter names follow timm's, so that published ViT weights load by key.

Source: Dosovitskiy et al., An Image Is Worth 16x16 Words (2021), section 3.1.

Shapes: N windows, M mel bands, T frames, P patches, D width, H heads, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from acoustic.classify import mobilenet, rowwise
from acoustic.classify.statistics import StatisticsHead
from acoustic.classify.stems import STEMS, Patches
from acoustic.classify.vit_config import N_PREFIX, VitConfig


class VisionTransformer(nn.Module):
    """Vision Transformer classifier: (N, 1, height, width) float → (N, C) float32 logits.

    `gradient_checkpointing`, False by default, trades time for memory in training; it has no
    effect on inference, where nothing is stored for a backward pass.

    Args:
        config: architecture; sizes, stem, pooling and heads.

    >>> model = VisionTransformer(VitConfig(depth=1))
    >>> tuple(model(torch.zeros(2, 1, 128, 144)).shape)
    (2, 16)
    """

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        n_prefix = N_PREFIX[config.pool]
        self.patch_embed = _stem(config)
        if n_prefix:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        if n_prefix == 2:
            self.dist_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, n_prefix + config.n_patches, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.head_norm = (
            nn.LayerNorm(config.width, eps=config.layer_norm_eps)
            if config.head_norm
            else nn.Identity()
        )
        self.head = nn.Linear(config.width, config.n_classes)
        self.statistics = (
            StatisticsHead(config.statistics, config.n_classes) if config.statistics else None
        )
        self.tags = (
            mobilenet.TagHead(config.n_classes, has_musicnn=config.musicnn)
            if config.stem == "mobilenet"
            else None
        )
        self.apply(_initialise)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        if self.tags is not None:
            nn.init.zeros_(self.tags.head.weight)
            nn.init.zeros_(self.tags.kind.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of windows.

        Args:
            x: (N, 1, input_height, input_width) normalised windows, in the dtype of the weights.

        Returns:
            (N, C) float32.
        """
        logits_per_head = self.logits_per_head(x, self.pool(self.embed(x)))
        return torch.stack(logits_per_head).mean(dim=0)

    def outputs(self, x: Tensor) -> Tensor:
        """Logits, pooled features and, with a mobilenet stem, log-odds of music, side by side.

        Returns:
            (N, C + D) or (N, C + D + 1) float32.
        """
        pooled = self.pooled(x)
        logits = torch.stack(self.logits_per_head(x, pooled)).mean(dim=0)
        own, maps = self._parts(pooled)
        music = [] if self.tags is None else [self.tags.music(maps)]
        return torch.cat([logits, own.float(), *music], dim=1)

    def pooled(self, x: Tensor) -> Tensor:
        """Pooled features (N, D) of windows; (N, D + E) with maps."""
        return self.pool(self.embed(x))

    def embed(self, x: Tensor) -> Tensor:
        """Patch tokens plus position embeddings, without the class token: (N, P, D).

        Args:
            x: (N, 1, input_height, input_width) windows, or (N, P, D) tokens of the stem.

        A mobilenet stem's tokens are D + E wide: the maps of its trunk come along.
        """
        # tokens that the stem has made before come without maps
        own, maps = self._parts(x if x.ndim == 3 else self.patch_embed(x))
        # the positions of the class and distillation tokens come first: take the last P
        tokens = own + self.pos_embed[:, -self.config.n_patches :]
        return torch.cat([tokens, maps], dim=2) if maps.shape[-1] else tokens

    def pool(self, x_NPD: Tensor) -> Tensor:
        """Pooled features (N, D) of any subset of the patch tokens; (N, D + E) with maps."""
        own, maps = self._parts(x_NPD)
        tokens = self.transform(own)
        n_prefix = N_PREFIX[self.config.pool]
        pooled = (tokens[:, :n_prefix] if n_prefix else tokens).mean(dim=1)
        return torch.cat([pooled, maps.mean(dim=1)], dim=1) if maps.shape[-1] else pooled

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The first D of the last axis, and the trunk's maps behind them."""
        return x[..., : self.config.width], x[..., self.config.width :]

    def transform(self, x_NPD: Tensor) -> Tensor:
        """Tokens after all blocks: (N, P, D), with class and distillation tokens before them."""
        if n_prefix := N_PREFIX[self.config.pool]:
            tokens: list[Tensor] = [self.cls_token, *([self.dist_token] if n_prefix == 2 else [])]
            prefix = torch.cat(tokens, dim=1) + self.pos_embed[:, :n_prefix]
            x_NPD = torch.cat([prefix.expand(x_NPD.shape[0], -1, -1), x_NPD], dim=1)
        for block in self.blocks:
            if self.gradient_checkpointing and self.training:
                x_NPD = checkpoint(block, x_NPD, use_reentrant=False)
            else:
                x_NPD = block(x_NPD)
        out: Tensor = self.norm(x_NPD)
        return out

    def logits_per_head(self, x: Tensor, x_ND: Tensor) -> list[Tensor]:
        """Logits (N, C) of each head; the model's logits are their mean.

        Each head is trained with its own loss: with a loss on the mean alone, the head that learns
        faster would leave the other nothing to learn.

        Args:
            x: (N, 1, input_height, input_width) normalised windows.
            x_ND: (N, D) or (N, D + E) pooled features of the same windows.
        """
        own, maps = self._parts(x_ND)
        found = [self.head_logits(own)]
        if self.tags is not None and maps.shape[-1]:
            found.append(self.tags(maps))
        if self.statistics is not None:
            found.append(self.statistics(x))
        return found

    def head_logits(self, x_ND: Tensor) -> Tensor:
        """Logits (N, C) of pooled features (N, D), always in float32."""
        x_ND = self.head_norm(x_ND.float())
        # a small product per output is faster, but not for hundreds of them
        product = rowwise.linear if self.config.n_classes <= 64 else rowwise.wide_linear
        return product(x_ND, self.head)


def _stem(config: VitConfig) -> nn.Module:
    if config.patch_strides is not None:
        return Patches(config.width, config.patch_size, config.patch_strides)
    if config.stem == "mobilenet":
        return mobilenet.MobileNetStem(
            config.width, config.patch_size, config.segment_frames, has_musicnn=config.musicnn
        )
    return STEMS[config.stem](config.width, config.patch_size)


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.mlp = Mlp(config)

    def forward(self, x_NPD: Tensor) -> Tensor:
        """(N, P, D) → (N, P, D)."""
        x_NPD = x_NPD + self.attn(self.norm1(x_NPD))
        out: Tensor = x_NPD + self.mlp(self.norm2(x_NPD))
        return out


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection for query, key and value."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x_NPD: Tensor) -> Tensor:
        """(N, P, D) → (N, P, D)."""
        n, p, d = x_NPD.shape
        qkv = self.qkv(x_NPD).reshape(n, p, 3, self.heads, d // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (N, H, P, D / H)
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(n, p, d))
        return out


class Mlp(nn.Module):
    """Two linear layers with an exact (erf) GELU between them."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        hidden = round(config.width * config.mlp_ratio)
        self.fc1 = nn.Linear(config.width, hidden)
        self.fc2 = nn.Linear(hidden, config.width)

    def forward(self, x_NPD: Tensor) -> Tensor:
        """(N, P, D) → (N, P, D)."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x_NPD)))
        return out


def _initialise(module: nn.Module) -> None:
    # linear layers as in timm's ViT; other modules keep the defaults of torch
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
