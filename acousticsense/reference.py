"""The guide's front end on librosa (its sections 2.3 and 3.1) beside ours, on the same file.

Both decode the middle of the file and compute the guide's log-mel: 22,050 Hz, 40 bands, 224
frames. Times are of steady state: librosa's first call also compiles for some seconds.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from acoustic.geometry import MelConfig
from acoustic.preprocess.decode import open_audio
from acoustic.preprocess.guard import DecodeLimits
from acoustic.preprocess.mel import MelSpectrogram
from acoustic.preprocess.segments import plan_segments
from acoustic.preprocess.waveform import resample

GUIDE_MEL = MelConfig(n_fft=1024, hop_length=256, n_mels=40, n_frames=224)
GUIDE_SECONDS = 30.0
"""The guide decodes the middle 30 s and then keeps 224 frames, 2.6 s."""

Samples = npt.NDArray[np.float32]
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Medians over the runs, and how far the two spectrograms are apart.

    Attributes:
        librosa_decode_ms: decoding and resampling 30 s with librosa.
        librosa_ms: log-mel of them with librosa.
        our_decode_ms: decoding and resampling one window with ours.
        our_ms: log-mel of it with ours.
        max_difference_db: largest difference between the log-mels of the same samples, dB.
    """

    librosa_decode_ms: float
    librosa_ms: float
    our_decode_ms: float
    our_ms: float
    max_difference_db: float


def compare_front_ends(data: bytes, n_runs: int) -> Comparison:
    """Time both front ends on a file.

    Args:
        data: bytes of an audio file of at least one window (2.6 s).
        n_runs: runs, whose medians count; one more warms up.

    Raises:
        InputError: the audio cannot be decoded.
        ModuleNotFoundError: the extra acousticsense[reference] is not installed.
    """
    import librosa

    mel = GUIDE_MEL
    spectrogram = MelSpectrogram(mel)
    limits = DecodeLimits()
    duration_s = open_audio(data, limits).info.duration_s or mel.window_s

    def librosa_decode() -> Samples:
        offset_s = max(0.0, (duration_s - GUIDE_SECONDS) / 2)
        samples, _ = librosa.load(
            io.BytesIO(data), sr=mel.sample_rate, offset=offset_s, duration=GUIDE_SECONDS
        )
        return np.asarray(samples, np.float32)

    def librosa_log_mel(samples: Samples) -> Samples:
        power = librosa.feature.melspectrogram(
            y=samples, sr=mel.sample_rate, n_fft=mel.n_fft, hop_length=mel.hop_length,
            n_mels=mel.n_mels, fmin=mel.f_min, fmax=mel.f_max, center=False,
        )  # fmt: skip
        return np.asarray(librosa.power_to_db(power, ref=np.max), np.float32)

    def our_decode() -> Samples:
        reader = open_audio(data, limits)
        (segment,) = plan_segments(duration_s, mel.window_s, 1)
        return resample(reader.read(segment), mel.sample_rate, limits)

    librosa_samples, librosa_decode_ms = _median(librosa_decode, n_runs)
    _, librosa_ms = _median(lambda: librosa_log_mel(librosa_samples), n_runs)
    our_samples, our_decode_ms = _median(our_decode, n_runs)
    ours, our_ms = _median(lambda: spectrogram(our_samples), n_runs)
    theirs = librosa_log_mel(our_samples)
    return Comparison(
        librosa_decode_ms=librosa_decode_ms,
        librosa_ms=librosa_ms,
        our_decode_ms=our_decode_ms,
        our_ms=our_ms,
        max_difference_db=float(np.abs(ours - theirs).max()),
    )


def _median(work: Callable[[], Result], n_runs: int) -> tuple[Result, float]:
    """Result of the last run and the median time in ms; the first run is not counted."""
    result = work()
    times_ms = []
    for _ in range(n_runs):
        begun_s = time.perf_counter()
        result = work()
        times_ms.append((time.perf_counter() - begun_s) * 1e3)
    return result, statistics.median(times_ms)
