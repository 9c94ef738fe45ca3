"""What passes between the stages: TrackFeatures → TrackLogits → Prediction (in `prediction`).

All values are frozen. Arrays are contiguous numpy, because they cross process borders.
Shapes: S windows of one track, M mel bands, T frames, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Effort = Literal["fast", "balanced", "thorough", "auto"]
"""How much of a track is heard: 1, 3 or 10 windows; auto begins with 3 and listens on while the
answer is close, up to 10."""

EFFORTS: tuple[Effort, ...] = get_args(Effort)


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioInfo:
    """What the decoder found out about a file.

    Attributes:
        duration_s: seconds, or None where the container does not tell and counting is no option.
        sample_rate: Hz, of the file.
        channels: of the file.
        format: container or codec name, such as "MP3".
    """

    duration_s: float | None
    sample_rate: int
    channels: int
    format: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One piece of a track, from `start_s` up to `end_s`."""

    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """Numbers about the sound itself, over the windows that were decoded.

    Attributes:
        rms_db: level relative to full scale, dB.
        silence_ratio: share of 50 ms frames below -60 dB full scale, in [0, 1].
        clipping_ratio: share of samples at full scale, in [0, 1].
        bandwidth_hz: upper edge of the spectrum that carries sound, Hz.
        snr_estimate_db: mean level of a band over its quietest tenth, dB; rough.
    """

    rms_db: float
    silence_ratio: float
    clipping_ratio: float
    bandwidth_hz: float
    snr_estimate_db: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Descriptors:
    """What musicians would say of a track, over the windows that were heard.

    Attributes:
        tempo_bpm: beats per minute, 0 where there is no onset.
        tempo_confidence: how clear the pulse is, in [0, 1].
        beat_strength: how far strong onsets stand out, in [0, 1].
        low_frequency_ratio: share of the energy below 200 Hz, in [0, 1].
        vocal_proxy: share of syllable-like fluctuation in the voice's range, in [0, 1].
    """

    tempo_bpm: float
    tempo_confidence: float
    beat_strength: float
    low_frequency_ratio: float
    vocal_proxy: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrackFeatures:
    """Stage 1's result: what the model hears of one track.

    Attributes:
        log_mel: (S, M, T) uint8, dB = x / 255 · top_db − top_db relative to each window's maximum.
            One byte a value keeps three windows under Ray's 100 KiB inline limit.
        segments: where the S windows lie in the track.
        info: container facts.
        quality: numbers about the sound.
        descriptors: numbers about the music.
        content_sha256: hex digest of the bytes, "" where not all of them were read.
        front_end_digest: of the settings that shaped the features.
        n_unheard: windows that a further round of effort auto would add.
        cached: whether the features came from the cache.
        timings_ms: milliseconds per step of this stage.
    """

    log_mel: npt.NDArray[np.uint8]
    segments: tuple[Segment, ...]
    info: AudioInfo
    quality: Quality
    descriptors: Descriptors
    content_sha256: str
    front_end_digest: str
    n_unheard: int = 0
    cached: bool = False
    timings_ms: dict[str, float] = field(default_factory=dict)

    @property
    def n_windows(self) -> int:
        """S."""
        return len(self.log_mel)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInfo:
    """Which model answered, as shown in every reply.

    Attributes:
        name: the checkpoint's name.
        version: its version.
        digest: first 12 hex digits of the SHA-256 of weights and config.
        device: where it ran, such as "cpu" or "cuda".
        precision: "fp32", "bf16" or "fp16".
    """

    name: str
    version: str
    digest: str
    device: str
    precision: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrackLogits:
    """Stage 2's result, with what stage 3 needs from stage 1.

    Attributes:
        logits: (S, C) float32, one row a window.
        features: stage 1's result without its spectrogram (see `FeatureSummary`).
        distance: mean over the windows of the cosine distance to the training data, in [0, 2];
            None where the checkpoint has no training features to compare with.
        model: which model answered.
        timings_ms: milliseconds per step of stages 1 and 2.
    """

    logits: npt.NDArray[np.float32]
    features: FeatureSummary
    model: ModelInfo
    distance: float | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureSummary:
    """TrackFeatures without the spectrogram: what travels on to stage 3."""

    segments: tuple[Segment, ...]
    info: AudioInfo
    quality: Quality
    descriptors: Descriptors
    content_sha256: str
    front_end_digest: str
    cached: bool
    n_unheard: int = 0

    @classmethod
    def of(cls, features: TrackFeatures) -> FeatureSummary:
        """The summary of stage 1's result."""
        return cls(
            segments=features.segments,
            info=features.info,
            quality=features.quality,
            descriptors=features.descriptors,
            content_sha256=features.content_sha256,
            front_end_digest=features.front_end_digest,
            n_unheard=features.n_unheard,
            cached=features.cached,
        )
