"""Each corruption has the effect that its name and strength state, measured on samples."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from acoustic.evaluation.corruptions import (
    NOISE_SNR_DB,
    add_noise,
    clip,
    corruption_grid,
    gain,
    low_pass,
    pink_noise,
    reverb,
    speed,
    to_mp3,
    white_noise,
)
from tests.support.sounds import noise, sweep, tone

RATE = 22_050


def band_power(x: np.ndarray, low_hz: float, high_hz: float) -> float:
    power = np.abs(np.fft.rfft(x.astype(np.float64))) ** 2
    hz = np.fft.rfftfreq(x.size, 1 / RATE)
    return float(power[(hz >= low_hz) & (hz < high_hz)].sum())


@pytest.mark.parametrize("snr_db", NOISE_SNR_DB)
def test_noise_is_added_at_its_ratio(snr_db: int, rng: np.random.Generator) -> None:
    signal = tone(440, 2.0, level=0.01)
    added = add_noise(signal, white_noise(signal.size, rng), snr_db) - signal
    ratio = np.mean(signal.astype(float) ** 2) / np.mean(added.astype(float) ** 2)
    assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=0.01)


def test_a_sum_past_full_scale_is_turned_down_not_clipped(rng: np.random.Generator) -> None:
    mixed = add_noise(tone(440, 1.0, level=0.9), white_noise(RATE, rng), -5)
    assert np.abs(mixed).max() == pytest.approx(1.0)
    assert (np.abs(mixed) > 0.999).sum() < 3


def test_white_has_equal_power_per_hertz_and_pink_per_octave(rng: np.random.Generator) -> None:
    white, pink = white_noise(4 * RATE, rng), pink_noise(4 * RATE, rng)
    assert band_power(white, 4000, 8000) / band_power(white, 1000, 2000) == pytest.approx(
        4, rel=0.1
    )
    assert band_power(pink, 4000, 8000) / band_power(pink, 1000, 2000) == pytest.approx(1, rel=0.1)


def test_low_pass_removes_what_is_above(rng: np.random.Generator) -> None:
    evaluated = low_pass(white_noise(2 * RATE, rng), RATE, 2000, rng)
    assert band_power(evaluated, 4000, 11_000) < 1e-5 * band_power(evaluated, 0, 2000)


def test_clipping_flattens_a_tone(rng: np.random.Generator) -> None:
    clipped = clip(tone(100, 1.0, level=0.1), RATE, 12, rng)
    share = 1 - 2 / np.pi * np.arcsin(10 ** (-12 / 20))
    assert np.mean(np.abs(clipped) > 0.999) == pytest.approx(share, abs=0.01)


def test_gain(rng: np.random.Generator) -> None:
    np.testing.assert_allclose(gain(tone(100, 0.1), RATE, -20, rng), tone(100, 0.1) / 10, rtol=1e-6)


def test_reverb_decays_by_60_db_in_its_time(rng: np.random.Generator) -> None:
    impulse = np.zeros(2 * RATE, np.float32)
    impulse[0] = 1.0
    tail = reverb(impulse, RATE, 500, rng)
    early = 10 * np.log10(np.mean(tail[100:1100] ** 2))
    late = 10 * np.log10(np.mean(tail[5600:6600] ** 2))
    assert early - late == pytest.approx(60 * 5500 / (RATE / 2), abs=1.5)
    assert np.abs(tail[RATE // 2 + 1 :]).max() < 1e-6


@pytest.mark.parametrize("percent", [90, 110])
def test_speed_changes_length_and_pitch(percent: int, rng: np.random.Generator) -> None:
    played = speed(tone(1000, 2.0), RATE, percent, rng)
    assert played.size == pytest.approx(2 * RATE * 100 / percent, abs=2)
    hz = np.fft.rfftfreq(played.size, 1 / RATE)[np.abs(np.fft.rfft(played)).argmax()]
    assert hz == pytest.approx(10 * percent, abs=1)


@pytest.mark.parametrize("kbps", [32, 64])
def test_mp3_has_its_bitrate(kbps: int) -> None:
    n_bytes = len(to_mp3(sweep(10.0), RATE, kbps))
    assert n_bytes * 8 / 10 / 1000 == pytest.approx(kbps, rel=0.05)


def test_the_grid_makes_files_that_decode(rng: np.random.Generator) -> None:
    grid = corruption_grid({"speech": [noise(1.0)], "none": []})
    assert (grid[0].kind, len(grid)) == ("clean", 1 + 3 * len(NOISE_SNR_DB) + 14)
    assert len({(c.kind, c.strength) for c in grid}) == len(grid)
    for corruption in grid:
        data = corruption.apply(sweep(3.0), RATE, rng)
        samples, rate = soundfile.read(io.BytesIO(data))
        assert rate == RATE
        assert samples.size >= 2.6 * RATE


def test_a_low_pass_above_what_a_rate_can_hold_changes_nothing() -> None:
    sound = noise(0.5)
    assert low_pass(sound, 16_000, 8_000, np.random.default_rng(0)) is sound
