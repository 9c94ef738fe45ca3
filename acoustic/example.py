"""A piece of music made up in code, for first steps, warm-up, measurements and tests."""

from __future__ import annotations

import io
from functools import cache

import numpy as np
import numpy.typing as npt
import soundfile as sf

BEAT_S = 0.5  # 120 beats per minute
BEATS_PER_BAR = 4
CHORDS = ((9, 0, 4), (5, 9, 0), (0, 4, 7), (7, 11, 2))
"""A minor, F, C and G, a bar each: semitones above C."""

BASS, MIDDLE, HIGH = 36, 60, 72  # C of each part, as MIDI numbers

Samples = npt.NDArray[np.float64]


def example_waveform(duration_s: float = 8.0, sample_rate: int = 22_050) -> npt.NDArray[np.float32]:
    """Drums, bass, chords and a tune: (n,) float32 within ±0.5."""
    n_samples = round(duration_s * sample_rate)
    band = _Band(sample_rate)
    mix = np.zeros(n_samples + sample_rate)  # a note may end after the piece
    for beat in range(int(duration_s / BEAT_S) + 1):
        chord, is_even = CHORDS[beat // BEATS_PER_BAR % len(CHORDS)], beat % 2 == 0
        in_bar = beat % BEATS_PER_BAR
        tune = HIGH + chord[2 * beat % len(chord)]
        parts = [
            (0.0, band.kick if is_even else band.snare),
            *((half, band.hat) for half in (0.0, 0.5)),
            (0.0, band.note("bass", BASS + chord[0])),
            (0.5, band.note("bass", BASS + chord[0] + (0 if is_even else 12))),
            (0.0, band.note("tune", tune)),
        ]
        if is_even:  # the second time in a bar it comes half a beat late
            late = 0.25 * in_bar
            parts += [(late, band.note("chord", MIDDLE + each)) for each in chord]
        if in_bar == BEATS_PER_BAR - 1:
            parts.append((0.5, band.note("tune", tune + 2)))
        for later, sound in parts:
            start = round((beat + later) * BEAT_S * sample_rate)
            if start < n_samples:
                mix[start : start + sound.size] += sound[: mix.size - start]
    piece = mix[:n_samples]
    return np.asarray(0.5 * piece / max(float(np.abs(piece).max()), 1e-9), np.float32)


def example_wav(duration_s: float = 8.0, sample_rate: int = 22_050) -> bytes:
    """The example waveform as the bytes of a 16-bit WAV file."""
    file = io.BytesIO()
    sf.write(file, example_waveform(duration_s, sample_rate), sample_rate, format="WAV")
    return file.getvalue()


class _Band:
    """Sounds of the instruments, (n,) float64 each.

    Args:
        sample_rate: Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        rng = np.random.default_rng(0)
        t = self._times(0.25)
        falling_hz = 50 * t + 110 / 30 * (1 - np.exp(-30 * t))  # from 160 Hz to 50 Hz
        self.kick = 0.5 * np.sin(2 * np.pi * falling_hz) * np.exp(-14 * t)
        t = self._times(0.2)
        skin = 0.8 * np.sin(2 * np.pi * 190 * t) * np.exp(-30 * t)
        self.snare = 0.16 * (rng.normal(size=t.size) * np.exp(-22 * t) + skin)
        t = self._times(0.06)
        self.hat = 0.05 * np.diff(rng.normal(size=t.size + 1)) * np.exp(-70 * t)
        self.note = cache(self._note)

    def _note(self, part: str, midi: int) -> Samples:
        """A plucked note: harmonics below half the sample rate, the higher ones shorter."""
        length_s, decay, gain = {
            "bass": (0.4, 3.0, 0.22),
            "chord": (0.9, 2.5, 0.09),
            "tune": (0.45, 4.0, 0.10),
        }[part]
        t, hz = self._times(length_s), 440 * 2 ** ((midi - 69) / 12)
        numbers = [k for k in range(1, 11) if k * hz < self._rate / 2]
        sound = np.zeros(t.size)
        for k in numbers:
            sound += np.sin(2 * np.pi * k * hz * t) * np.exp(-decay * (1 + k / 4) * t) / k**1.2
        return np.asarray(gain * sound * np.minimum(1, t / 0.004))

    def _times(self, length_s: float) -> Samples:
        return np.arange(round(length_s * self._rate)) / self._rate
