"""Synthetic clips of three genres with clearly different spectrograms."""

from __future__ import annotations

import csv
import zlib
from pathlib import Path

import numpy as np

from acoustic.data.dataset import Clip
from acoustic.training.augment import AugmentConfig
from tests.support.sounds import encode, noise, tone

OFF = AugmentConfig(
    tempo_factors=(1.0, 1.0),
    pitch_factors=(1.0, 1.0),
    tilt_db=0,
    equaliser_db=0,
    noise_probability=0,
    low_pass_probability=0,
    blur=(0.0, 0.0),
)
N_FRAMES = 144
BEATS, NOTES, NEITHER = 1, 6, 12
GENRES_MADE = (BEATS, NOTES, NEITHER)


def clip(label: int, seed: int, split: str = "train", n_frames: int = 300) -> Clip:
    """A clip of noise with beats (vertical lines), held notes (horizontal lines), or neither."""
    rng = np.random.default_rng(seed)
    log_mel = rng.integers(0, 120, (128, n_frames)).astype(np.uint8)
    if label == BEATS:
        log_mel[:, seed % 12 :: 12] = 255
    elif label == NOTES:
        log_mel[seed % 12 :: 12] = 255
    return Clip(log_mel=log_mel, label=label, split=split, group=f"{split}{seed}", source="made")


def write_song(path: Path, seed: int, duration_s: float = 8.0) -> None:
    """Write a WAV file with a tone over noise; another path has another content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hiss = noise(duration_s, level=0.01, seed=zlib.crc32(str(path).encode()))
    sound = tone(200 + 50 * seed, duration_s) + hiss
    path.write_bytes(encode(sound, 22_050))


def write_manifest(folder: Path, rows: list[dict[str, str]]) -> Path:
    """Write manifest.csv, and a song for each row whose file does not exist."""
    path = folder / "manifest.csv"
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for seed, row in enumerate(rows):
        song = folder / row["file"]
        if not song.exists():
            write_song(song, seed)
    return path
