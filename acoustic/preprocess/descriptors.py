"""Musical descriptors of a track (tempo, beat, bass, voice), computed from its log-mel windows.

They are part of the reply and an input of stage 3's knowledge rules, not of the model.

Shapes: S windows, M mel bands, T frames, L lags.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from acoustic.geometry import MelConfig
from acoustic.mel_bands import mel_band_edges_hz
from acoustic.preprocess.mel import DB_OF_E, pre_emphasis_gain
from acoustic.types import Descriptors

LogMelDb = npt.NDArray[np.float32]
Curve = npt.NDArray[np.float64]

TEMPO_BPM = (40.0, 240.0)
USUAL_TEMPO_BPM = 120.0
TEMPO_SPREAD_OCTAVES = 1.0
"""Prior: listeners tap near 120 BPM; Ellis, Beat Tracking by Dynamic Programming (2007)."""

MULTIPLES = (2, 3, 4)
"""Multiples of the beat's lag, where rounding to whole frames is a smaller relative error."""

LOW_HZ = 200.0
VOICE_HZ = (300.0, 3_400.0)
SYLLABLES_HZ = (2.5, 6.0)  # fluctuations per second that count as syllables
SLOWEST_HZ, FASTEST_HZ = 0.4, 12.0  # fluctuations per second that count at all


def describe(log_mel_db: LogMelDb, mel: MelConfig) -> Descriptors:
    """Compute all descriptors of one track.

    Args:
        log_mel_db: (S, M, T) float32 dB relative to each window's maximum.
        mel: geometry of `log_mel_db`.
    """
    frames_per_s = mel.sample_rate / mel.hop_length
    onsets = onset_strength(log_mel_db)
    tempo_bpm, confidence = estimate_tempo(onsets, frames_per_s)
    return Descriptors(
        tempo_bpm=tempo_bpm,
        tempo_confidence=confidence,
        beat_strength=beat_strength(onsets),
        low_frequency_ratio=low_frequency_ratio(log_mel_db, mel),
        vocal_proxy=vocal_proxy(log_mel_db, mel),
    )


def onset_strength(log_mel_db: LogMelDb) -> Curve:
    """Onset strength, (S, T − 1): rise from one frame to the next, dB, averaged over the bands."""
    rises = np.maximum(np.diff(log_mel_db, axis=2), 0)
    return np.asarray(rises.mean(axis=1, dtype=np.float64))


def estimate_tempo(onsets: Curve, frames_per_s: float) -> tuple[float, float]:
    """Estimate the tempo, in beats per minute within TEMPO_BPM, and its confidence in [0, 1].

    The tempo is the peak of the onsets' autocorrelation, weighted towards the usual tempo and
    refined at the multiples of its lag. The confidence is the autocorrelation at the peak:
    Lartillot et al., Multi-Feature Modeling of Pulse Clarity (2008). Both are 0 without an onset.

    Args:
        onsets: (S, T − 1) onset strength, dB.
        frames_per_s: frames of the spectrogram per second.
    """
    correlation = _autocorrelation(onsets)
    slowest, fastest = (round(60 * frames_per_s / bpm) for bpm in TEMPO_BPM)
    # Lags are in frames. The bounds keep both neighbours of a peak inside the array, without lag 0.
    lags = np.arange(max(2, fastest), min(slowest, correlation.size - 2) + 1)
    if not lags.size or not correlation[0]:
        return 0.0, 0.0
    # Half and double tempo correlate nearly as well: a Gaussian prior over octaves decides.
    octaves = np.log2(60 * frames_per_s / lags / USUAL_TEMPO_BPM)
    weights = np.exp(-0.5 * np.square(octaves / TEMPO_SPREAD_OCTAVES))
    best = int(lags[np.argmax(correlation[lags] * weights)])
    confidence = float(np.clip(correlation[best], 0.0, 1.0))
    tempo_bpm = np.clip(60 * frames_per_s / _refined_lag(correlation, best), *TEMPO_BPM)
    return float(tempo_bpm), confidence


def beat_strength(onsets: Curve) -> float:
    """How far strong onsets exceed the median one, in [0, 1]: 0 for a drone, 1 for clicks."""
    strong = float(np.quantile(onsets, 0.95))
    usual = float(np.median(onsets))
    return float(np.clip(1 - usual / strong, 0.0, 1.0)) if strong > 0 else 0.0


def low_frequency_ratio(log_mel_db: LogMelDb, mel: MelConfig) -> float:
    """Share of the energy below LOW_HZ, in [0, 1]."""
    edges_hz = mel_band_edges_hz(mel)
    centres_hz, widths_hz = edges_hz[1:-1], edges_hz[2:] - edges_hz[:-2]
    power = np.exp(log_mel_db / DB_OF_E).mean(axis=(0, 2))
    # Slaney's filters are area-normalised (power per Hz): a band's energy is power × width. The
    # square of a sum of magnitudes grows with the square of the width: energy is power / width.
    # Triangles of height 1 over the power (Kaldi's) sum up the energy itself.
    energy = power * {"slaney": widths_hz, "htk": 1 / widths_hz, "kaldi": 1.0}[mel.bands]
    if mel.algorithm == "kaldi_fbank":
        energy = energy / pre_emphasis_gain(centres_hz, mel.sample_rate)
    return float(energy[centres_hz < LOW_HZ].sum() / energy.sum())


def vocal_proxy(log_mel_db: LogMelDb, mel: MelConfig) -> float:
    """Share of the fluctuation in the voice's range that is as fast as syllables, in [0, 1].

    Speech and singing fluctuate at about 4 Hz; so do quick rhythms, so this is only a proxy.
    Source: Scheirer and Slaney, Robust Multifeature Speech/Music Discriminator (1997).
    """
    centres_hz = mel_band_edges_hz(mel)[1:-1]
    voice = log_mel_db[:, (centres_hz >= VOICE_HZ[0]) & (centres_hz <= VOICE_HZ[1])]
    voice = voice.astype(np.float64) - voice.mean(axis=2, keepdims=True)
    # Spectrum of each band's level over time, (S, bands, rates); Hann limits the leakage.
    spectrum = np.fft.rfft(voice * np.hanning(voice.shape[2]), axis=2)
    energy = (spectrum.real**2 + spectrum.imag**2).sum(axis=(0, 1))
    rates_hz = np.fft.rfftfreq(voice.shape[2], mel.hop_length / mel.sample_rate)
    whole = energy[(rates_hz >= SLOWEST_HZ) & (rates_hz <= FASTEST_HZ)].sum()
    syllables = energy[(rates_hz >= SYLLABLES_HZ[0]) & (rates_hz <= SYLLABLES_HZ[1])].sum()
    return float(syllables / whole) if whole > 0 else 0.0


def _autocorrelation(onsets: Curve) -> Curve:
    """Unbiased autocorrelation, (L,), mean over windows, 1 at lag 0; all 0 without fluctuation."""
    level = onsets - onsets.mean(axis=1, keepdims=True)
    n_frames = level.shape[1]
    # Zero-padding to twice the length makes the FFT's circular correlation a linear one; a lag of
    # l frames sums n_frames - l products, and dividing by that number removes the bias.
    spectrum = np.abs(np.fft.rfft(level, 2 * n_frames, axis=1)) ** 2
    sums = np.fft.irfft(spectrum.sum(axis=0))[:n_frames]
    means = sums / (n_frames - np.arange(n_frames))
    return np.asarray(means / means[0]) if means[0] > 1e-12 else np.zeros(n_frames)


def _refined_lag(correlation: Curve, lag: int) -> float:
    """Lag in fractions of a frame: a parabola at the peak, then at the peaks of its multiples."""
    # An error of the peak at k times the lag is divided by k. Lags beyond two thirds of the window
    # average too few frames, and a peak below half of the first is not the same pulse.
    refined = _peak(correlation, lag)
    for multiple in MULTIPLES:
        near = round(refined * multiple)
        if near + 2 >= 2 * correlation.size // 3:
            break
        later = near - 1 + int(np.argmax(correlation[near - 1 : near + 2]))
        if correlation[later] < 0.5 * correlation[lag]:
            break
        refined = _peak(correlation, later) / multiple
    return refined


def _peak(correlation: Curve, lag: int) -> float:
    # Vertex of the parabola through three points; a maximum only where it bends down.
    before, here, after = correlation[lag - 1 : lag + 2]
    bend = before - 2 * here + after
    return lag + float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else lag
