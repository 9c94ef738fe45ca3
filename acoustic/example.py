"""Synthetic music-like audio, for warm-up, first steps and tests."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import soundfile as sf

CHORD_HZ = (220.0, 277.18, 329.63)  # A3, C#4, E4
BEAT_S = 0.5  # 120 beats per minute


def example_waveform(duration_s: float = 8.0, sample_rate: int = 22_050) -> npt.NDArray[np.float32]:
    """A decaying A-major chord on every beat, over a soft bass: (n,) float32 within ±0.5."""
    t = np.arange(round(duration_s * sample_rate)) / sample_rate
    envelope = np.exp(-6.0 * (t % BEAT_S))
    chord = sum(np.sin(2 * np.pi * hz * t) for hz in CHORD_HZ) / len(CHORD_HZ)
    bass = np.sin(2 * np.pi * CHORD_HZ[0] / 4 * t)
    return (0.35 * envelope * chord + 0.15 * bass).astype(np.float32)


def example_wav(duration_s: float = 8.0, sample_rate: int = 22_050) -> bytes:
    """The example waveform as the bytes of a 16-bit WAV file."""
    file = io.BytesIO()
    sf.write(file, example_waveform(duration_s, sample_rate), sample_rate, format="WAV")
    return file.getvalue()
