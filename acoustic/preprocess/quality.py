"""Audio quality of a track: level, silence, clipping, bandwidth, a rough SNR.

The numbers explain an uncertain answer; they change one only through an enabled rule.
Each function defines its number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from acoustic.geometry import MelConfig
from acoustic.mel_bands import mel_band_edges_hz
from acoustic.types import Quality

FRAME_S = 0.05
SILENCE_DB = -60.0
"""A 50 ms frame below this level, relative to full scale, is silent."""

BAND_EDGE_DB = -65.0
"""A band whose mean level, relative to the loudest band's, is below this carries no sound."""

NOISE_QUANTILE = 0.1  # of a band's frames, by power: taken as its noise
MIN_DB = -120.0  # lowest level reported, relative to full scale


def measure_quality(
    waveforms: Sequence[npt.NDArray[np.float32]],
    clipping_ratio: float,
    mel_power: npt.NDArray[np.float32],
    mel: MelConfig,
    channel_cancellation: float = 0.0,
) -> Quality:
    """Measure the quality over all decoded windows of one track.

    Args:
        waveforms: one (n,) float32 per decoded window, silent ones included; full scale is 1,
            the sample rate is the mel's.
        clipping_ratio: share of clipped samples in [0, 1], counted by the decoder at the file's
            own rate, before mixing down.
        mel_power: (M, frames) float32, the windows that are not silent, joined along time.
        mel: geometry of `mel_power`.
        channel_cancellation: largest share of a window's power that averaging its channels
            cancels, in [0, 1], measured by the decoder.

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
        channel_cancellation=channel_cancellation,
    )


def bandwidth_hz(mel_power: npt.NDArray[np.float32], mel: MelConfig) -> float:
    """Centre of the highest band whose mean level is within 65 dB of the loudest band's."""
    highest = int(np.flatnonzero(_audible_bands(mel_power))[-1])
    return float(mel_band_edges_hz(mel)[highest + 1])


def snr_estimate_db(mel_power: npt.NDArray[np.float32]) -> float:
    """Estimate the SNR, dB in [0, 80]: a band's mean power over its quietest tenth, averaged.

    All bands have the same weight, because noise shows in those where the music is weak; bands
    without sound are left out. A sustained chord has no quiet frames and gives a low value: this
    is a hint, not a measurement.
    """
    audible = mel_power[_audible_bands(mel_power)]
    signal = np.maximum(audible.mean(axis=1, dtype=np.float64), 1e-20)
    noise = _low_quantile(audible, NOISE_QUANTILE)
    # The bound on the noise limits a band to 80 dB, where its quietest tenth is digital silence.
    ratios_db = 10 * np.log10(signal / np.maximum(noise, signal * 1e-8))
    return float(np.clip(ratios_db.mean(), 0.0, 80.0))


def _low_quantile(values: npt.NDArray[np.float32], share: float) -> npt.NDArray[np.float32]:
    """np.quantile of each row of (R, n), by one partition of it instead of four."""
    place = share * (values.shape[1] - 1)
    below = int(place)
    above = min(below + 1, values.shape[1] - 1)
    parts = np.partition(values, above, axis=1)
    low, high = parts[:, : below + 1].max(axis=1), parts[:, above]
    return np.asarray(low + (high - low) * np.float32(place - below), np.float32)


def _audible_bands(mel_power: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    mean = mel_power.mean(axis=1)
    return np.asarray(mean >= mean.max() * 10 ** (BAND_EDGE_DB / 10))


def _frame_levels_db(
    waveform: npt.NDArray[np.float32], sample_rate: int
) -> npt.NDArray[np.float64]:
    # Frames do not overlap; a remainder shorter than one is dropped, a short waveform is one frame.
    n_frame = min(max(1, round(FRAME_S * sample_rate)), waveform.size)
    n_frames = waveform.size // n_frame
    frames = waveform[: n_frames * n_frame].reshape(n_frames, n_frame)
    mean_square = np.einsum("ij,ij->i", frames, frames) / n_frame
    levels_db = 10 * np.log10(np.maximum(mean_square.astype(np.float64), 1e-12))
    return np.asarray(levels_db)
