"""The recipe: augmentation by physics, honest data handling, one seed = one result."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from acoustic.classify.checkpoint import save_checkpoint
from acoustic.classify.scaling import Scaling
from acoustic.errors import ConfigError
from acoustic.labels import GENRES
from acoustic.manifest import load_manifest
from acoustic.postprocess.calibration import load_calibration, track_probabilities
from acoustic.preprocess.mel import MelConfig
from acoustic.training.augment import AugmentConfig, augment, mask, random_crop, renormalise
from acoustic.training.calibrate import bootstrap, calibrate
from acoustic.training.dataset import Clip, read_clips
from acoustic.training.probe import linear_probe
from acoustic.training.train import Recipe, train
from acoustic.training.validate import clip_logits, cut_windows
from tests.models import TINY
from tests.sounds import encode, noise, tone

OFF = AugmentConfig(
    tempo_factors=(1.0, 1.0),
    pitch_factors=(1.0, 1.0),
    tilt_db=0,
    noise_probability=0,
    low_pass_probability=0,
)
N_FRAMES = 144
BEATS, NOTES, NEITHER = 1, 6, 12


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def crops(n: int = 8) -> torch.Tensor:
    return renormalise(-80 * torch.rand(n, 128, N_FRAMES, generator=generator()))


def clip(label: int, seed: int, split: str = "train", n_frames: int = 300) -> Clip:
    """Genres that a look can tell apart: beats, held notes, or neither."""
    rng = np.random.default_rng(seed)
    log_mel = rng.integers(0, 120, (128, n_frames)).astype(np.uint8)
    if label == BEATS:
        log_mel[:, seed % 12 :: 12] = 255
    elif label == NOTES:
        log_mel[seed % 12 :: 12] = 255
    return Clip(log_mel=log_mel, label=label, split=split, group=f"{split}{seed}", source="made")


def test_nothing_switched_on_changes_nothing() -> None:
    torch.testing.assert_close(augment(crops(), OFF, generator()), crops(), atol=1e-3, rtol=0)


def test_noise_has_the_snr_that_was_asked_for() -> None:
    config = replace(OFF, noise_probability=1.0, noise_snr_db=(0.0, 0.0))
    signal = renormalise(torch.full((4, 128, N_FRAMES), -80.0).index_fill(1, torch.tensor([20]), 0))
    noisy = torch.pow(10, augment(signal, config, generator()) / 10)
    band = noisy[:, 20].sum(dim=1)
    rest = noisy.sum(dim=(1, 2)) - band
    torch.testing.assert_close(rest / band, torch.ones(4), atol=0.15, rtol=0)


def test_a_low_pass_empties_the_upper_bands_only() -> None:
    config = replace(OFF, low_pass_probability=1.0, low_pass_bands=(64, 64))
    filtered = augment(crops(), config, generator())
    assert (filtered[:, 64:] == -80).all()
    assert (filtered[:, :64] > -80).float().mean() > 0.9


def test_tilt_is_a_straight_line_over_the_bands() -> None:
    flat = torch.full((1, 128, N_FRAMES), -40.0)
    tilted = augment(flat, replace(OFF, tilt_db=10.0), generator())[0, :, 0]
    steps = tilted.diff()
    torch.testing.assert_close(steps, steps[:1].expand_as(steps), atol=1e-3, rtol=0)
    assert steps[0].abs() > 0


def test_the_maximum_is_always_zero() -> None:
    strong = AugmentConfig(noise_probability=1.0, low_pass_probability=0.5)
    out = augment(crops(), strong, generator())
    torch.testing.assert_close(out.amax(dim=(1, 2)), torch.zeros(8))
    assert out.min() >= -80


def test_masks_cover_what_they_may_and_no_more() -> None:
    masked = mask(torch.ones(64, 128, N_FRAMES), 0.0, OFF, generator())
    share = (masked == 0).float().mean(dim=(1, 2))
    assert 0.05 < share.mean() < 0.4
    assert (masked == 0).all(dim=2).sum(dim=1).max() <= 2 * (OFF.mask_bands + 1)


def test_a_crop_without_stretch_is_a_piece_of_the_clip(rng: np.random.Generator) -> None:
    log_mel = rng.integers(0, 256, (128, 400)).astype(np.uint8)
    piece = (random_crop(log_mel, N_FRAMES, OFF, rng).numpy() + 80) * 255 / 80
    starts = [s for s in range(257) if np.allclose(piece, log_mel[:, s : s + N_FRAMES], atol=0.01)]
    assert len(starts) == 1


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_pitch_moves_a_band(factor: float, rng: np.random.Generator) -> None:
    log_mel = np.zeros((128, 400), np.uint8)
    log_mel[60] = 255
    config = replace(OFF, pitch_factors=(factor, factor))
    moved = int(random_crop(log_mel, N_FRAMES, config, rng).mean(dim=1).argmax())
    assert moved == pytest.approx(60 / factor, abs=1.5)


def test_windows_are_spread_and_renormalised(rng: np.random.Generator) -> None:
    log_mel = rng.integers(0, 200, (128, 700)).astype(np.uint8)
    windows = cut_windows(log_mel, N_FRAMES, 10)
    assert windows.shape == (10, 128, N_FRAMES)
    assert (windows.max(axis=(1, 2)) == 255).all()
    assert windows.dtype == np.uint8


RECIPE = Recipe(
    n_crops=1200, batch_size=24, learning_rate=2e-3, mixup_alpha=0.01, ema_decay=0.9, augment=OFF
)
THREE_GENRES = [clip(label, seed) for label in (BEATS, NOTES, NEITHER) for seed in range(6)]


def test_it_learns() -> None:
    recipe = replace(RECIPE, n_crops=2400)
    model = train(THREE_GENRES, TINY, N_FRAMES, Scaling(), recipe)
    held_out = [clip(label, 100 + label, "valid") for label in (BEATS, NOTES, NEITHER)]

    def forward(windows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(Scaling().apply(torch.from_numpy(windows))).numpy()

    probabilities = track_probabilities(clip_logits(forward, held_out, N_FRAMES, 3), 1.0)
    assert probabilities.argmax(axis=1).tolist() == [BEATS, NOTES, NEITHER]
    assert probabilities.max(axis=1).min() > 0.5


def test_one_seed_is_one_result() -> None:
    short = replace(RECIPE, n_crops=72)
    first, second, other = (
        train(THREE_GENRES, TINY, N_FRAMES, Scaling(), replace(short, seed=seed)).state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_valid_clips_are_not_trained_on() -> None:
    with pytest.raises(ConfigError, match="train split"):
        train([clip(1, 1, "valid")], TINY, N_FRAMES, Scaling(), RECIPE)


def write_audio_folder(folder: Path, rows: list[tuple[str, str, str]]) -> None:
    """Rows of (genre, split, group)."""
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "genre", "split", "group"])
        for i, (genre, split, group) in enumerate(rows):
            sound = tone(200 + 100 * i, 8.0) + noise(8.0, level=0.01)
            (folder / f"{i}.wav").write_bytes(encode(sound, 22_050))
            writer.writerow([f"{i}.wav", genre, split, group])


def test_audio_folders_are_read_by_genre_name(tmp_path: Path) -> None:
    write_audio_folder(tmp_path, [("jazz", "train", "a"), ("hiphop", "valid", "b")])
    found = read_clips([tmp_path], GENRES, MelConfig())
    assert [(GENRES.names[c.label], c.split) for c in found] == [
        ("Jazz", "train"),
        ("Hip-Hop", "valid"),
    ]
    assert found[0].log_mel.shape == (128, 1 + (8 * 22_050 - 2048) // 915)


def test_an_unreadable_file_is_skipped_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_audio_folder(tmp_path, [("Jazz", "train", "a"), ("Jazz", "train", "b")])
    (tmp_path / "1.wav").write_bytes(b"not audio")
    assert len(read_clips([tmp_path], GENRES, MelConfig())) == 1
    assert "skipped file=1.wav code=unsupported_audio" in caplog.text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("Jazz", "train", "a"), ("Jazz", "valid", "a")], "is in two splits"),
        ([("Polka", "train", "a")], "'Polka' is not among the labels"),
    ],
)
def test_bad_data_is_refused(
    tmp_path: Path, rows: list[tuple[str, str, str]], message: str
) -> None:
    write_audio_folder(tmp_path, rows)
    with pytest.raises(ConfigError, match=message):
        read_clips([tmp_path], GENRES, MelConfig())


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no manifest\.csv"):
        read_clips([tmp_path], GENRES, MelConfig())


def test_the_probe_finds_what_is_linear() -> None:
    def banded(label: int, seed: int) -> Clip:
        plain = clip(NEITHER, seed)
        log_mel = plain.log_mel.copy()
        log_mel[label * 8 : label * 8 + 8] = 255
        return replace(plain, log_mel=log_mel, label=label)

    known = [banded(label, seed) for label in (2, 7, 11) for seed in range(4)]
    unknown = [banded(label, 50 + label) for label in (2, 7, 11)]
    assert linear_probe(known, unknown, 16).tolist() == [2, 7, 11]


def test_bootstrap_interval_of_a_coin() -> None:
    mean, low, high = bootstrap(np.array([True, False] * 100))
    assert mean == 0.5
    assert 0.42 < low < 0.45
    assert 0.55 < high < 0.58


def test_calibrate_writes_what_the_service_reads(tmp_path: Path) -> None:
    model = train(THREE_GENRES, TINY, N_FRAMES, Scaling(), replace(RECIPE, n_crops=240))
    save_checkpoint(
        tmp_path,
        name="t",
        version="1",
        model=model,
        labels=GENRES,
        mel=MelConfig(),
        scaling=Scaling(),
    )
    (tmp_path / "training.json").write_text(
        '{"variant": "tiny", "n_parameters": 1, "date": "2026-01-01", "cpu_minutes": 1.0, '
        '"recipe": {"n_crops": 240, "batch_size": 24, "learning_rate": 0.001}, '
        '"clips": {"Blues": {"made": 6}}}'
    )
    valid = [
        clip(label, 80 + label + i, "valid") for label in (BEATS, NOTES, NEITHER) for i in range(3)
    ]
    calibrate(tmp_path, THREE_GENRES + valid)
    calibration = load_calibration(tmp_path, load_manifest(tmp_path).digest)
    assert set(calibration.temperatures) == {1, 3, 10}
    assert calibration.n_tracks == 9
    card = (tmp_path / "README.md").read_text()
    assert "| made | 9 |" in card
    assert "linear probe" in card
