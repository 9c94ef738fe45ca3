"""What the model sees of a track, as JSON: the log-mel windows with their axes."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

from acoustic.geometry import MelConfig
from acoustic.levels import MAX_LEVEL
from acoustic.mel_bands import mel_band_edges_hz
from acoustic.types import TrackFeatures, WindowValues


def spectrogram_reply(features: TrackFeatures, mel: MelConfig) -> dict[str, Any]:
    """The JSON object of the windows of one track.

    Args:
        features: result of stage 1.
        mel: geometry of its windows.

    Returns:
        `n_mels` and `n_frames` of each window, `hop_s` between two frames in seconds, `band_hz`
        with the centre of every band in Hz, and `windows` in the order of time: `start_s`, `end_s`
        and `levels`, base64 of n_mels · n_frames bytes, the lowest band first, 255 the loudest.
    """
    mel = mel.blocks[0]
    levels = to_levels(features.log_mel[:, : mel.n_mels])
    segments = features.facts.segments
    return {
        "n_mels": mel.n_mels,
        "n_frames": mel.n_frames,
        "hop_s": round(mel.hop_length / mel.sample_rate, 6),
        "band_hz": [round(float(hz), 1) for hz in mel_band_edges_hz(mel)[1:-1]],
        "windows": [
            {
                "start_s": round(segment.start_s, 3),
                "end_s": round(segment.end_s, 3),
                "levels": base64.b64encode(np.ascontiguousarray(window).data).decode(),
            }
            for segment, window in zip(segments, levels, strict=True)
        ],
    }


def to_levels(windows: WindowValues) -> npt.NDArray[np.uint8]:
    """Values of windows as levels from 0 to 255; absolute ones are spread over their range.

    Args:
        windows: (S, M, T) uint8, or float16 of absolute levels.
    """
    if windows.dtype == np.uint8:
        return np.asarray(windows, np.uint8)
    low, high = float(windows.min()), float(windows.max())
    shares = (windows.astype(np.float32) - low) / max(high - low, 1e-6)
    return np.round(shares * MAX_LEVEL).astype(np.uint8)
