"""Descriptors: tempo against librosa on synthetic rhythms, the others by physics."""

from __future__ import annotations

import librosa
import numpy as np
import numpy.typing as npt
import pytest

from acoustic.geometry import MelConfig
from acoustic.preprocess.descriptors import (
    TEMPO_BPM,
    beat_strength,
    describe,
    estimate_tempo,
    low_frequency_ratio,
    onset_strength,
)
from acoustic.preprocess.mel import MelSpectrogram, power_to_db
from acoustic.types import Descriptors

MEL = MelConfig()
RATE = MEL.sample_rate
N_WINDOW = MEL.window_samples


def windows(waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    spectrogram = MelSpectrogram(MEL)
    n_windows = len(waveform) // N_WINDOW
    pieces = waveform[: n_windows * N_WINDOW].reshape(n_windows, N_WINDOW)
    return np.stack([power_to_db(spectrogram.power(piece), MEL.top_db) for piece in pieces])


def described(waveform: npt.NDArray[np.float32]) -> Descriptors:
    return describe(windows(waveform), MEL)


def rhythm(bpm: float, duration_s: float = 19.0, seed: int = 0) -> npt.NDArray[np.float32]:
    """Decaying noise bursts on every beat, softer ones between the beats, over a quiet chord."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(duration_s * RATE)) / RATE
    out = 0.02 * sum(np.sin(2 * np.pi * f * t) for f in (220.0, 277.2, 329.6))
    decay = np.exp(-np.arange(round(0.2 * RATE)) / (0.03 * RATE))
    for beat, strength in ((0.0, 1.0), (0.5, 0.3)):
        for start_s in np.arange(beat * 60 / bpm, duration_s - 0.3, 60 / bpm):
            first = round(start_s * RATE)
            out[first : first + decay.size] += strength * decay * rng.normal(0, 0.3, decay.size)
    return np.asarray(out, np.float32)


@pytest.mark.parametrize("bpm", [70.0, 92.0, 100.0, 120.0, 128.0, 140.0, 160.0, 174.0])
def test_the_tempo_of_a_rhythm(bpm: float) -> None:
    """Within 2 % of the true tempo, its half or its double; within 6 % of librosa's likewise."""
    waveform = rhythm(bpm)
    found = described(waveform)
    ratio = found.tempo_bpm / bpm
    assert min(abs(ratio / octave - 1) for octave in (0.5, 1.0, 2.0)) < 0.02
    assert found.tempo_confidence > 0.4
    theirs = float(np.ravel(librosa.feature.tempo(y=waveform, sr=RATE))[0])
    ratios = [theirs / found.tempo_bpm * octave for octave in (0.5, 1.0, 2.0)]
    assert min(abs(ratio - 1) for ratio in ratios) < 0.06


@pytest.mark.parametrize("period_frames", [5, 6, 7, 40])
def test_the_tempo_is_within_its_range(period_frames: int) -> None:
    onsets = np.zeros((2, 143))
    onsets[:, ::period_frames] = 1.0
    tempo_bpm, _ = estimate_tempo(onsets, RATE / MEL.hop_length)
    assert TEMPO_BPM[0] <= tempo_bpm <= TEMPO_BPM[1]


def test_noise_has_no_clear_tempo(rng: np.random.Generator) -> None:
    found = described(rng.normal(0, 0.1, 3 * N_WINDOW).astype(np.float32))
    assert found.tempo_confidence < 0.25


def test_silence_has_none_at_all() -> None:
    found = describe(np.full((1, 128, 144), -80.0, np.float32), MEL)
    assert (found.tempo_bpm, found.tempo_confidence, found.beat_strength) == (0.0, 0.0, 0.0)
    assert found.vocal_proxy == 0.0


def test_clicks_have_a_strong_beat_and_a_drone_a_weak_one(rng: np.random.Generator) -> None:
    t = np.arange(2 * N_WINDOW) / RATE
    drone = np.sin(2 * np.pi * 220 * t) + 0.01 * rng.normal(size=t.size)
    of_drone = beat_strength(onset_strength(windows(drone.astype(np.float32))))
    of_rhythm = beat_strength(onset_strength(windows(rhythm(120.0))))
    assert of_drone < 0.6 < of_rhythm


@pytest.mark.parametrize(("level_db", "expected"), [(0.0, 0.5), (10.0, 10 / 11), (-10.0, 1 / 11)])
def test_the_share_of_a_bass_tone(level_db: float, expected: float) -> None:
    """A 100 Hz tone at level_db relative to a 1 kHz tone."""
    t = np.arange(N_WINDOW) / RATE
    bass = 10 ** (level_db / 20) * np.sin(2 * np.pi * 100 * t)
    waveform = (bass + np.sin(2 * np.pi * 1000 * t)).astype(np.float32)
    assert low_frequency_ratio(windows(waveform), MEL) == pytest.approx(expected, abs=0.05)


def test_syllables_are_heard_at_their_rate() -> None:
    t = np.arange(2 * N_WINDOW) / RATE
    carrier = np.sin(2 * np.pi * 400 * t) + np.sin(2 * np.pi * 1200 * t)
    found = [
        described((carrier * (1.01 + np.sin(2 * np.pi * rate * t))).astype(np.float32)).vocal_proxy
        for rate in (0.8, 4.0, 9.0)
    ]
    assert found[1] > 0.7
    assert found[1] > found[0] + 0.3
    assert found[1] > found[2] + 0.3
