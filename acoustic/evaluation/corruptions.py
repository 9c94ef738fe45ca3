"""Corruptions of audio samples at stated strengths, for robustness tests.

noise          a sound is added at a signal-to-noise ratio (powers over the whole clip)
mp3            encoded at a low constant bitrate
low_pass       nothing above a frequency: telephone, old tape, a bad codec
clipping       amplified and cut off at full scale
gain           turned down
reverb         convolved with decaying noise, by reverberation time
speed          played faster or slower, pitch and tempo together

Every corruption takes (n,) float32 mono in [-1, 1] and returns the bytes of a file, so that the
front end processes what a user would upload.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from scipy.signal import butter, fftconvolve, sosfilt

Samples = npt.NDArray[np.float32]
NOISE_SNR_DB = (20, 10, 5, 0, -5)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Corruption:
    """One corruption at one strength.

    Attributes:
        kind: kind of corruption, e.g. "white noise".
        strength: strength as text with its unit, e.g. "5 dB"; "" for clean.
        apply: maps samples, sample rate (Hz) and generator to the bytes of an audio file.
    """

    kind: str
    strength: str
    apply: Callable[[Samples, int, np.random.Generator], bytes]


def corruption_grid(recordings: dict[str, Sequence[Samples]]) -> list[Corruption]:
    """All corruptions at all strengths, clean first.

    Args:
        recordings: kind of noise → recordings of it, at the sample rate of the clips.
    """
    grid = [Corruption(kind="clean", strength="", apply=lambda x, rate, rng: to_wav(x, rate))]
    makers: dict[str, Callable[[int, np.random.Generator], Samples]] = {
        "white noise": white_noise,
        "pink noise": pink_noise,
        **{f"{kind} noise": _pick(found) for kind, found in recordings.items() if found},
    }
    grid += [_noisy(kind, make, snr_db) for kind, make in makers.items() for snr_db in NOISE_SNR_DB]
    grid += [_through("low-pass", f"{hz // 1000} kHz", low_pass, hz) for hz in (2000, 4000, 8000)]
    grid += [_through("clipping", f"+{db} dB", clip, db) for db in (6, 12, 24)]
    grid += [_through("gain", f"{db} dB", gain, db) for db in (-20, -40)]
    grid += [_through("reverb", f"{ms / 1000:g} s", reverb, ms) for ms in (500, 1500)]
    grid += [_through("speed", f"× {p / 100:g}", speed, p) for p in (90, 110)]
    grid += [
        Corruption(kind="MP3", strength=f"{kbps} kbit/s", apply=_mp3(kbps)) for kbps in (64, 32)
    ]
    return grid


def add_noise(x: Samples, noise: Samples, snr_db: float) -> Samples:
    """Add noise at a ratio of mean powers in dB; scale down if the sum exceeds full scale."""
    # The noise is repeated or cut to the length of x, and scaled to mean(x²) / 10^(SNR / 10).
    looped = np.resize(noise, x.size)
    power = float(np.mean(looped.astype(np.float64) ** 2)) or 1e-12
    wanted = float(np.mean(x.astype(np.float64) ** 2)) / 10 ** (snr_db / 10)
    mixed = x + looped * np.sqrt(wanted / power)
    return np.asarray(mixed / max(1.0, float(np.abs(mixed).max())), np.float32)


def white_noise(n: int, rng: np.random.Generator) -> Samples:
    """White noise: equal power per hertz."""
    return rng.standard_normal(n).astype(np.float32)


def pink_noise(n: int, rng: np.random.Generator) -> Samples:
    """Pink noise, equal power per octave: white spectrum over the square root of frequency."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum /= np.sqrt(np.maximum(np.arange(spectrum.size), 1))
    return np.asarray(np.fft.irfft(spectrum, n), np.float32)


def low_pass(x: Samples, rate: int, cutoff_hz: int, rng: np.random.Generator) -> Samples:
    """Low-pass filter: Butterworth of order 10; nothing to do where the rate has no more."""
    if 2 * cutoff_hz >= rate:
        return x
    return np.asarray(sosfilt(butter(10, cutoff_hz, fs=rate, output="sos"), x), np.float32)


def clip(x: Samples, rate: int, gain_db: int, rng: np.random.Generator) -> Samples:
    """Normalise to full scale, amplify, and clip at full scale."""
    peak = float(np.abs(x).max()) or 1.0
    return np.asarray(np.clip(x / peak * 10 ** (gain_db / 20), -1, 1), np.float32)


def gain(x: Samples, rate: int, gain_db: int, rng: np.random.Generator) -> Samples:
    """Change the level."""
    return np.asarray(x * 10 ** (gain_db / 20), np.float32)


def reverb(x: Samples, rate: int, rt60_ms: int, rng: np.random.Generator) -> Samples:
    """Convolve with white noise that decays by 60 dB in `rt60_ms`; the direct sound is kept."""
    # 60 dB are a factor of 10^−3 in amplitude. The tail has energy 0.7² against 1 of the direct
    # sound, which is its first sample.
    n = rate * rt60_ms // 1000
    tail = rng.standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    tail *= 0.7 / np.sqrt(np.sum(tail**2))
    tail[0] += 1.0
    wet = fftconvolve(x, tail)[: x.size]
    return np.asarray(wet / max(1.0, float(np.abs(wet).max())), np.float32)


def speed(x: Samples, rate: int, percent: int, rng: np.random.Generator) -> Samples:
    """Play at `percent` of the original speed; tempo and pitch change together."""
    return np.asarray(soxr.resample(x, rate * percent / 100, rate), np.float32)


def to_wav(x: Samples, rate: int) -> bytes:
    """Encode as 16-bit WAV; samples beyond full scale are clipped."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(x, -1, 1), rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def to_mp3(x: Samples, rate: int, kbps: int) -> bytes:
    """Encode as MP3 of constant bitrate: MPEG-2 Layer III, so rates below 32 kHz only."""
    buffer = io.BytesIO()
    # libsndfile has no bitrate option: its level 0 to 1 is linear from 160 down to 8 kbit/s.
    slowest, fastest = 8, 160
    level = (fastest - kbps) / (fastest - slowest)
    with soundfile.SoundFile(
        buffer, "w", rate, 1, format="MP3", bitrate_mode="CONSTANT", compression_level=level
    ) as file:
        file.write(np.clip(x, -1, 1))
    return buffer.getvalue()


def _mp3(kbps: int) -> Callable[[Samples, int, np.random.Generator], bytes]:
    return lambda x, rate, rng: to_mp3(x, rate, kbps)


def _pick(recordings: Sequence[Samples]) -> Callable[[int, np.random.Generator], Samples]:
    return lambda n, rng: recordings[int(rng.integers(len(recordings)))]


def _noisy(
    kind: str, make: Callable[[int, np.random.Generator], Samples], snr_db: int
) -> Corruption:
    return Corruption(
        kind=kind,
        strength=f"{snr_db} dB",
        apply=lambda x, rate, rng: to_wav(add_noise(x, make(x.size, rng), snr_db), rate),
    )


def _through(
    kind: str,
    strength: str,
    effect: Callable[[Samples, int, int, np.random.Generator], Samples],
    amount: int,
) -> Corruption:
    return Corruption(
        kind=kind,
        strength=strength,
        apply=lambda x, rate, rng: to_wav(effect(x, rate, amount, rng), rate),
    )
