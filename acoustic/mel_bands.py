"""Mel bands over the bins of an FFT: edges and triangular filters.

Shapes: M mel bands, K frequency bins.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from acoustic.geometry import MelConfig

# Slaney's scale: linear up to 1 kHz = 15 mel, then 27 mel per factor of 6.4.
_LINEAR_HZ_PER_MEL = 200.0 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = np.log(6.4) / 27.0


def mel_filterbank(config: MelConfig) -> npt.NDArray[np.float32]:
    """Triangular filters of the M bands over the K frequency bins.

    Returns:
        (M, K) float32.

    Source: Slaney, Auditory Toolbox (1998): linear below 1 kHz, 27 log steps per factor 6.4;
    Young et al., The HTK Book (2006): 1127 · ln(1 + f / 700).
    """
    bins_hz = np.fft.rfftfreq(config.n_fft, 1 / config.sample_rate).astype(np.float64)
    if config.bands in ("htk", "kaldi"):
        # straight sides over mel, not over Hz; the bin at 0 Hz is left out
        triangles = _triangles(_hz_to_htk(mel_band_edges_hz(config)), _hz_to_htk(bins_hz))
        triangles[:, 0] = 0
        return np.ascontiguousarray(triangles, np.float32)
    edges_hz = mel_band_edges_hz(config)
    area = 2.0 / (edges_hz[2:] - edges_hz[:-2])
    return np.ascontiguousarray(_triangles(edges_hz, bins_hz) * area[:, None], np.float32)


def _triangles(
    edges: npt.NDArray[np.float64], bins: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(M, K): band m rises from edge m to 1 at edge m + 1, and falls to edge m + 2."""
    ramps = edges[:, None] - bins[None, :]
    widths = np.diff(edges)[:, None]
    return np.maximum(0.0, np.minimum(-ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]))


def mel_band_edges_hz(config: MelConfig) -> npt.NDArray[np.float64]:
    """Edges of the M overlapping bands, (M + 2,) Hz; band m peaks at edge m + 1."""
    if config.bands in ("htk", "kaldi"):
        low_mel, high_mel = _hz_to_htk(np.array([config.f_min, config.f_max]))
        return 700 * np.expm1(np.linspace(low_mel, high_mel, config.n_mels + 2) / 1127)
    low, high = _hz_to_mel(config.f_min), _hz_to_mel(config.f_max)
    return _mel_to_hz(np.linspace(low, high, config.n_mels + 2))


def _hz_to_htk(hz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(1127 * np.log1p(hz / 700))


def _hz_to_mel(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _LINEAR_HZ_PER_MEL
    return float(_BREAK_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP)


def _mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    linear = mel * _LINEAR_HZ_PER_MEL
    log = _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, linear, log)
