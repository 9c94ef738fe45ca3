"""Synthetic audio for tests, encoded in any container."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import soundfile as sf

Samples = npt.NDArray[np.float32]

FORMATS = {
    "wav": {"format": "WAV", "subtype": "PCM_16"},
    "wav24": {"format": "WAV", "subtype": "PCM_24"},
    "wavfloat": {"format": "WAV", "subtype": "FLOAT"},
    "flac": {"format": "FLAC"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {"format": "MP3"},
    "aiff": {"format": "AIFF"},
    "au": {"format": "AU"},
    "caf": {"format": "CAF"},
    "w64": {"format": "W64"},
}


def encode(samples: Samples, sample_rate: int, kind: str = "wav") -> bytes:
    file = io.BytesIO()
    sf.write(file, samples, sample_rate, **FORMATS[kind])
    return file.getvalue()


def tone(hz: float, duration_s: float, sample_rate: int = 22_050, level: float = 0.5) -> Samples:
    t = np.arange(round(duration_s * sample_rate)) / sample_rate
    return (level * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def sweep(duration_s: float, sample_rate: int = 22_050) -> Samples:
    """A rising chirp: every position has another frequency, so a wrong offset is detected."""
    t = np.arange(round(duration_s * sample_rate)) / sample_rate
    # 100 Hz to a quarter of the sample rate, geometrically; the phase is the running sum of hz.
    hz = 100 * (sample_rate / 400) ** (t / duration_s)
    return (0.5 * np.sin(2 * np.pi * np.cumsum(hz) / sample_rate)).astype(np.float32)


def noise(
    duration_s: float, sample_rate: int = 22_050, level: float = 0.1, seed: int = 0
) -> Samples:
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(round(duration_s * sample_rate))).astype(np.float32)


def streamed_flac(flac: bytes) -> bytes:
    """The file as an encoder writes it to a pipe: total samples 0, which means unknown."""
    data = bytearray(flac)
    # STREAMINFO: total samples are 36 bits, the low half of byte 21 and bytes 22 to 25.
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    return bytes(data)


def silent_flac(duration_s: float, sample_rate: int, channels: int = 1) -> bytes:
    """Digital silence as FLAC: a very long file of very few bytes."""
    file = io.BytesIO()
    block = np.zeros((sample_rate * 10, channels), np.int16)
    with sf.SoundFile(file, "w", sample_rate, channels, format="FLAC", subtype="PCM_16") as sound:
        for _ in range(round(duration_s / 10)):
            sound.write(block)
    return file.getvalue()
