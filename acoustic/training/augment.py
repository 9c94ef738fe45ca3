"""Augmentation of log-mel crops in the mel domain; no audio is needed.

Order of the steps: tempo and pitch (resampling the two axes), an equaliser, additive noise
(a sum of powers), a random low-pass (some training sources are band-limited; without it a
model learns the codec instead of the music), a gate as of codecs, a blur or sharpening across the
bands (some spectrograms were recovered from pictures and are smoother than those of audio),
renormalisation to the crop's own maximum as the serving front end does. Masks come last, in the
trainer. A gain would change nothing: levels are relative to the maximum.

Shapes: N crops, M mel bands, T frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from acoustic.levels import STORED_TOP_DB, dequantise
from acoustic.types import WindowValues

N_WAVES = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """Strength of each augmentation.

    Attributes:
        tempo_factors: range of the number of frames read per frame of the crop; above 1 is faster.
        pitch_factors: range of the number of bands read per band of the crop; above 1 is lower.
        tilt_db: largest level change between the lowest and the highest band, dB.
        equaliser_db: standard deviation of each slow wave of the equaliser over the bands, dB; the
            sound of a studio should not decide the genre.
        noise_probability: share of crops that get noise, in [0, 1].
        noise_snr_db: range of the signal-to-noise ratio, dB.
        low_pass_probability: share of crops that lose their upper bands, in [0, 1].
        low_pass_ratios: range of the first band that is lost, as a share of the bands, in [0, 1].
        gate_probability: share of crops that lose what is far below the loudest sound of its frame,
            as codecs of low bit rate leave it out, in [0, 1].
        gate_db: range of the depth of that gate, dB below the frame's loudest band.
        blur: range of the weight that a band gives to its two neighbours; below 0 sharpens.
        mask_band_ratio: widest frequency mask, as a share of the bands; two are drawn.
        mask_frame_ratio: longest time mask, as a share of the frames; two are drawn.
    """

    tempo_factors: tuple[float, float] = (0.75, 1.33)
    pitch_factors: tuple[float, float] = (0.95, 1.05)
    tilt_db: float = 6.0
    equaliser_db: float = 1.0
    noise_probability: float = 0.25
    noise_snr_db: tuple[float, float] = (-5.0, 30.0)
    low_pass_probability: float = 0.15
    low_pass_ratios: tuple[float, float] = (0.56, 0.985)
    gate_probability: float = 0.0
    gate_db: tuple[float, float] = (35.0, 65.0)
    blur: tuple[float, float] = (-0.15, 0.4)
    mask_band_ratio: float = 0.125
    mask_frame_ratio: float = 0.167


OFF = AugmentConfig(
    tempo_factors=(1.0, 1.0), pitch_factors=(1.0, 1.0), tilt_db=0.0, equaliser_db=0.0,
    noise_probability=0.0, low_pass_probability=0.0, blur=(0.0, 0.0), mask_band_ratio=0.0,
    mask_frame_ratio=0.0,
)  # fmt: skip
"""Crops at random places and nothing else."""

LIGHT = AugmentConfig(
    tempo_factors=(0.9, 1.11), pitch_factors=(0.97, 1.03), tilt_db=4.0, noise_probability=0.3,
    noise_snr_db=(0.0, 30.0), low_pass_probability=0.1, low_pass_ratios=(0.6, 0.98),
    gate_probability=0.2, blur=(-0.1, 0.1),
)  # fmt: skip
"""What a frozen trunk can take: it cannot learn to see through more."""


def random_crop(
    log_mel: WindowValues,
    n_frames: int,
    config: AugmentConfig,
    rng: np.random.Generator,
) -> Tensor:
    """Cut one crop with random position, tempo and pitch.

    Args:
        log_mel: (M, T_clip) uint8, with T_clip ≥ n_frames.
        n_frames: T of the crop.
        config: the factor ranges.
        rng: source of randomness.

    Returns:
        (M, T) float32 dB.
    """
    n_mels, n_clip = log_mel.shape
    # Drawn on a log scale, so that a factor is as likely as its inverse.
    tempo = np.exp(rng.uniform(*np.log(config.tempo_factors)))
    pitch = np.exp(rng.uniform(*np.log(config.pitch_factors)))
    n_read = min(n_clip, max(2, round(n_frames * tempo)))
    start = int(rng.integers(0, n_clip - n_read + 1))
    piece = torch.from_numpy(log_mel[:, start : start + n_read].astype(np.float32))
    # Resampling the bands to fewer than M moves the content down; the empty bands on top are filled
    # with 0, which is −80 dB. With more than M bands the top ones are cut off.
    n_bands = round(n_mels / pitch)
    resized = F.interpolate(piece[None, None], (n_bands, n_frames), mode="bilinear")[0, 0]
    if n_bands < n_mels:
        resized = F.pad(resized, (0, 0, 0, n_mels - n_bands))
    levels_db: Tensor = dequantise(resized[:n_mels], STORED_TOP_DB)
    return levels_db


def augment(
    crops_db: Tensor,
    config: AugmentConfig,
    generator: torch.Generator,
    recordings_db: Tensor | None = None,
) -> Tensor:
    """Augment each crop by its own draw: levels, noise, low-pass, blur, then renormalise.

    Args:
        crops_db: (N, M, T) float32 dB.
        config: strengths.
        generator: source of randomness, on the crops' device.
        recordings_db: (N, M, T) float32 dB of non-music sounds, which are the noise of half of the
            crops on average; the other noise is synthetic. None: all noise is synthetic.

    Returns:
        (N, M, T) float32 dB in [-80, 0], maximum 0 per crop.
    """
    n, n_mels, _ = crops_db.shape
    slope = torch.linspace(-0.5, 0.5, n_mels, device=crops_db.device)[None, :, None]
    crops_db = crops_db + slope * _uniform(n, (-config.tilt_db, config.tilt_db), generator)
    crops_db = crops_db + _equaliser_db(crops_db, config, generator)
    noise = _made_up_noise(crops_db, slope, generator)
    if recordings_db is not None:
        recorded = torch.pow(10.0, recordings_db / 10)
        noise = torch.where(_chosen(n, 0.5, generator), recorded, noise)
    crops_db = _add_noise(crops_db, noise, config, generator)
    crops_db = _low_pass(crops_db, config, generator)
    if config.gate_probability:
        crops_db = _gate(crops_db, config, generator)
    crops_db = _blur(crops_db, config, generator)
    return renormalise(crops_db)


def renormalise(crops_db: Tensor) -> Tensor:
    """Levels relative to each crop's own maximum, floored at −80 dB, as in serving."""
    return (crops_db - crops_db.amax(dim=(1, 2), keepdim=True)).clamp(min=-STORED_TOP_DB)


def mask(crops: Tensor, value: float, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Two frequency and two time masks per crop, filled with `value`.

    Source: Park et al., SpecAugment (2019).
    """
    n, n_mels, n_frames = crops.shape
    for _ in range(2):
        bands = _band(n, n_mels, n_mels * config.mask_band_ratio, generator)[:, :, None]
        frames = _band(n, n_frames, n_frames * config.mask_frame_ratio, generator)[:, None, :]
        crops = crops.masked_fill(bands | frames, value)
    return crops


def _equaliser_db(like: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """(N, M, 1) gain per band: a sum of N_WAVES cosines over the bands, from slow to faster."""
    n, n_mels, _ = like.shape
    bands = (torch.arange(n_mels, device=like.device) + 0.5) / n_mels
    order = torch.arange(1, N_WAVES + 1, device=like.device)
    waves = torch.cos(torch.pi * order[:, None] * bands)
    weights = torch.randn(n, N_WAVES, generator=generator, device=like.device)
    return (weights * config.equaliser_db @ waves)[:, :, None]


def _made_up_noise(like: Tensor, slope: Tensor, generator: torch.Generator) -> Tensor:
    """(N, M, T) power of synthetic coloured noise whose bins fluctuate as in real noise."""
    colour = slope * _uniform(len(like), (-30.0, 30.0), generator)
    # of its own: what is drawn afterwards does not depend on the number of bands
    seed = int(torch.randint(2**62, (1,), generator=generator, device=like.device))
    own = torch.Generator(like.device).manual_seed(seed)
    flutter = torch.randn(like.shape, generator=own, device=like.device) * 2.0
    return torch.pow(10.0, (colour + flutter) / 10)


def _add_noise(
    crops_db: Tensor, noise: Tensor, config: AugmentConfig, generator: torch.Generator
) -> Tensor:
    """Add noise to some of the crops as a sum of powers, at a random signal-to-noise ratio."""
    n = len(crops_db)
    # scale solves mean(signal) / (scale · mean(noise)) = snr, with means over the crop's bins;
    # 1e-12 keeps the logarithm finite.
    signal = torch.pow(10.0, crops_db / 10)
    snr = torch.pow(10.0, _uniform(n, config.noise_snr_db, generator) / 10)
    scale = signal.mean(dim=(1, 2), keepdim=True) / noise.mean(dim=(1, 2), keepdim=True) / snr
    chosen = _chosen(n, config.noise_probability, generator)
    return 10 * torch.log10(signal + noise * scale * chosen + 1e-12)


def _low_pass(crops_db: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    n, n_mels, _ = crops_db.shape
    first = n_mels * _uniform(n, config.low_pass_ratios, generator)
    chosen = _chosen(n, config.low_pass_probability, generator)
    bands = torch.arange(n_mels, device=crops_db.device)[None, :, None]
    # −200 dB is far below the floor, to which `renormalise` clamps it.
    return crops_db.masked_fill(chosen & (bands >= first), -200.0)


def _gate(crops_db: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    n = len(crops_db)
    lowest = crops_db.amax(dim=1, keepdim=True) - _uniform(n, config.gate_db, generator)
    chosen = _chosen(n, config.gate_probability, generator)
    return crops_db.masked_fill(chosen & (crops_db < lowest), -200.0)


def _blur(crops_db: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Blur or sharpen across the bands by the mean of both neighbours, in dB as in a picture."""
    weight = _uniform(len(crops_db), config.blur, generator)
    padded = F.pad(crops_db, (0, 0, 1, 1), mode="replicate")
    neighbours = (padded[:, :-2] + padded[:, 2:]) / 2
    return crops_db + weight * (neighbours - crops_db)


def _band(n: int, size: int, widest: float, generator: torch.Generator) -> Tensor:
    # (n, size) flags of one contiguous band per row, wholly inside the axis.
    width = torch.rand(n, 1, generator=generator, device=generator.device) * widest
    start = torch.rand(n, 1, generator=generator, device=generator.device) * (size - width)
    position = torch.arange(size, device=generator.device)[None, :]
    return (position >= start) & (position < start + width)


def _chosen(n: int, probability: float, generator: torch.Generator) -> Tensor:
    return torch.rand(n, 1, 1, generator=generator, device=generator.device) < probability


def _uniform(n: int, bounds: tuple[float, float], generator: torch.Generator) -> Tensor:
    low, high = bounds
    drawn = torch.rand(n, 1, 1, generator=generator, device=generator.device)
    return drawn * (high - low) + low
