"""Numbers about the sound itself: level, silence, clipping, bandwidth, a rough SNR.

They explain an uncertain answer; they never change one. Source of each is in its function.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from acoustic.preprocess.mel import MelConfig, mel_band_edges_hz
from acoustic.types import Quality

FRAME_S = 0.05
SILENCE_DB = -60.0
"""A 50 ms frame below this level, relative to full scale, is silent."""

BAND_EDGE_DB = -65.0
"""A band whose mean level is lower than this under the loudest band carries no sound."""

NOISE_QUANTILE = 0.1
MIN_DB = -120.0


def measure_quality(
    waveforms: Sequence[npt.NDArray[np.float32]],
    clipping_ratio: float,
    mel_power: npt.NDArray[np.float32],
    mel: MelConfig,
) -> Quality:
    """Quality over all windows of one track.

    Args:
        waveforms: one (n,) float32 per decoded window, silent ones as well; full scale 1, at
            the mel's sample rate.
        clipping_ratio: counted by the decoder at the file's own rate, before mixing down.
        mel_power: (M, frames) float32, the windows that are not silent side by side.
        mel: geometry of `mel_power`.

    Returns:
        Finite numbers in the units of Quality.
    """
    levels_db = np.concatenate([_frame_levels_db(w, mel.sample_rate) for w in waveforms])
    mean_square = float(np.mean([np.mean(np.square(w, dtype=np.float64)) for w in waveforms]))
    return Quality(
        rms_db=float(max(10 * np.log10(max(mean_square, 1e-12)), MIN_DB)),
        silence_ratio=float(np.mean(levels_db < SILENCE_DB)),
        clipping_ratio=clipping_ratio,
        bandwidth_hz=bandwidth_hz(mel_power, mel),
        snr_estimate_db=snr_estimate_db(mel_power),
    )


def bandwidth_hz(mel_power: npt.NDArray[np.float32], mel: MelConfig) -> float:
    """Centre of the highest band whose mean level is within 65 dB of the loudest band's."""
    highest = int(np.flatnonzero(_audible_bands(mel_power))[-1])
    return float(mel_band_edges_hz(mel)[highest + 1])


def snr_estimate_db(mel_power: npt.NDArray[np.float32]) -> float:
    """Mean over the bands of their mean power over their quietest tenth, dB, in [0, 80].

    Bands count alike, because noise shows in those where the music is weak; bands without sound
    are left out. A sustained chord has no quiet frames and reads low: this is a hint, not a
    measurement.
    """
    heard = mel_power[_audible_bands(mel_power)]
    signal = np.maximum(heard.mean(axis=1, dtype=np.float64), 1e-20)
    noise = np.quantile(heard, NOISE_QUANTILE, axis=1)
    ratios_db = 10 * np.log10(signal / np.maximum(noise, signal * 1e-8))
    return float(np.clip(ratios_db.mean(), 0.0, 80.0))


def _audible_bands(mel_power: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    mean = mel_power.mean(axis=1)
    return np.asarray(mean >= mean.max() * 10 ** (BAND_EDGE_DB / 10))


def _frame_levels_db(
    waveform: npt.NDArray[np.float32], sample_rate: int
) -> npt.NDArray[np.float64]:
    n_frame = min(max(1, round(FRAME_S * sample_rate)), waveform.size)
    n_frames = waveform.size // n_frame
    frames = waveform[: n_frames * n_frame].reshape(n_frames, n_frame)
    mean_square = np.einsum("ij,ij->i", frames, frames) / n_frame
    levels_db = 10 * np.log10(np.maximum(mean_square.astype(np.float64), 1e-12))
    return np.asarray(levels_db)
