"""Pre-training without labels: a masked autoencoder on the crops of the same data.

Most patches of a crop are blanked; the encoder sees the rest, and a small decoder that is thrown
away afterwards restores the levels of the blanked ones. Off by default: docs/recipe.md shows
what it does on validation clips.

Source: He et al., Masked Autoencoders Are Scalable Vision Learners (2022); for spectrograms Huang
et al., Masked Autoencoders that Listen (2022).

Shapes: N crops, P patches, K kept patches, D width, L pixels of a patch.
"""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acoustic.classify.vit import Block, VisionTransformer, VitConfig
from acoustic.errors import ConfigError
from acoustic.training.batches import Batches
from acoustic.training.optimiser import Optimisers
from acoustic.training.train import Recipe, arithmetic, schedule_factor

logger = logging.getLogger(__name__)

KEPT_RATIO = 0.3
DECODER_WIDTH = 128
DECODER_DEPTH = 2


class MaskedAutoencoder(nn.Module):
    """An encoder with a decoder that restores what it did not see.

    Args:
        encoder: to be pre-trained, mean-pooled.
    """

    def __init__(self, encoder: VisionTransformer) -> None:
        super().__init__()
        config = encoder.config
        self.blocks = encoder.blocks  # first, so that the optimiser finds them by this name
        self.encoder = encoder
        self.narrow = nn.Linear(config.width, DECODER_WIDTH)
        self.mask_token = nn.Parameter(torch.zeros(DECODER_WIDTH))
        self.positions = nn.Parameter(torch.randn(1, config.n_patches, DECODER_WIDTH) * 0.02)
        decoder = VitConfig(width=DECODER_WIDTH, heads=4, depth=DECODER_DEPTH)
        self.decoder = nn.Sequential(*(Block(decoder) for _ in range(DECODER_DEPTH)))
        self.restore = nn.Linear(DECODER_WIDTH, config.patch_size**2)

    def forward(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the restored patches, a scalar.

        Args:
            x: (N, 1, height, width) normalised crops.
            generator: chooses the patches that stay.
        """
        config = self.encoder.config
        n, p = len(x), config.n_patches
        n_kept = max(1, round(p * KEPT_RATIO))
        order = torch.rand(n, p, generator=generator, device=x.device).argsort(dim=1)
        kept = order[:, :n_kept]
        visible = torch.zeros(n, p, device=x.device).scatter_(1, kept, 1.0)
        tokens_NKD = self.encoder.embed(x * _as_image(visible, config)).gather(
            1, kept[:, :, None].expand(-1, -1, config.width)
        )
        seen = self.narrow(self.encoder.encode_tokens(tokens_NKD))
        full = self.mask_token.to(seen.dtype).expand(n, p, -1)
        full = full.scatter(1, kept[:, :, None].expand(-1, -1, DECODER_WIDTH), seen)
        restored = self.restore(self.decoder(full + self.positions))
        error = (restored.float() - _normalised_patches(x, config)).square().mean(dim=2)
        blank = 1 - visible
        loss: Tensor = (blank * error).sum() / blank.sum()
        return loss


def pretrain(
    model: VisionTransformer, batches: Batches, recipe: Recipe, n_crops: int, device: str = "cpu"
) -> float:
    """Pre-train a model in place.

    Args:
        model: mean-pooled, on `device`.
        batches: source of crops; their labels are not looked at.
        recipe: batch size, rates, precision and seed.
        n_crops: crops seen.
        device: where the model is.

    Returns:
        Moving average of the loss at the end.

    Raises:
        ConfigError: the model has a class token.
    """
    if model.config.pool != "mean":
        raise ConfigError("pre-training needs a variant that pools by the mean of its tokens")
    torch.manual_seed(recipe.seed)
    autoencoder = MaskedAutoencoder(model).to(device).train()
    optimisers = Optimisers(autoencoder, recipe.optimiser)
    n_steps = math.ceil(n_crops / recipe.batches.batch_size)
    average = math.nan
    for batch in batches.stream(0, n_steps):
        generator = torch.Generator(device).manual_seed(batch.seed)
        with arithmetic(device, recipe.precision):
            loss = autoencoder(batch.x, generator)
        optimisers.step(loss, schedule_factor(batch.step / n_steps, recipe.warmup_ratio))
        value = loss.item()
        average = value if batch.step == 0 else 0.98 * average + 0.02 * value
        if batch.step % 100 == 99:
            logger.info("pretraining step=%d/%d loss=%.3f", batch.step + 1, n_steps, average)
    return average


def _as_image(visible: Tensor, config: VitConfig) -> Tensor:
    """(N, P) of 0 and 1 → (N, 1, height, width)."""
    size = config.patch_size
    grid = visible.view(-1, 1, config.input_height // size, config.input_width // size)
    return F.interpolate(grid, scale_factor=size, mode="nearest")


def _normalised_patches(x: Tensor, config: VitConfig) -> Tensor:
    """(N, P, L): each patch with mean 0 and deviation 1, as the paper found best."""
    size = config.patch_size
    patches = F.unfold(x, size, stride=size).transpose(1, 2)
    mean, deviation = patches.mean(dim=2, keepdim=True), patches.std(dim=2, keepdim=True)
    return (patches - mean) / (deviation + 1e-3)
