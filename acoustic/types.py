"""What passes between the stages: TrackFeatures → TrackLogits → Prediction (in `prediction`).

All values are frozen. Arrays are contiguous numpy, because they cross process borders.
Shapes: S windows of one track, M mel bands, T frames, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from acoustic.schema import Digits1, Digits2, Digits4, Digits6


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioInfo:
    """Facts of a file, from its container.

    Attributes:
        duration_s: length in seconds, or None if the container does not state it and counting is
            too expensive.
        sample_rate: sample rate of the file, Hz.
        channels: number of channels of the file.
        format: container or codec name, such as "MP3".
        stated_duration_s: length that the headers state, seconds; None where they state none, or
            the same as `duration_s`.
    """

    duration_s: float | None
    sample_rate: int
    channels: int
    format: str
    stated_duration_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One piece of a track, from `start_s` up to `end_s`, in seconds."""

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
        channel_cancellation: largest share of a window's power that averaging its channels
            cancels, in [0, 1]; near 1 for channels of opposite phase.
    """

    rms_db: Digits2
    silence_ratio: Digits4
    clipping_ratio: Digits6
    bandwidth_hz: Digits1
    snr_estimate_db: Digits2
    channel_cancellation: Digits6


@dataclass(frozen=True, kw_only=True, slots=True)
class Descriptors:
    """Musical properties of a track, over the windows that were evaluated.

    Attributes:
        tempo_bpm: beats per minute, 0 where there is no onset.
        tempo_confidence: how clear the pulse is, in [0, 1].
        beat_strength: how far strong onsets stand out, in [0, 1].
        low_frequency_ratio: share of the energy below 200 Hz, in [0, 1].
        vocal_proxy: share of syllable-like fluctuation in the voice's range, in [0, 1].
    """

    tempo_bpm: Digits1
    tempo_confidence: Digits4
    beat_strength: Digits4
    low_frequency_ratio: Digits4
    vocal_proxy: Digits4


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackFacts:
    """What stage 1 found out about a track, without its spectrogram.

    Attributes:
        segments: positions of the S windows in the track, in the order of time.
        info: facts of the container.
        quality: numbers about the sound.
        descriptors: numbers about the music.
        content_blake3: BLAKE3 digest of the file's bytes in hex, "" where nobody needed it.
        front_end_digest: digest of the settings that shaped the features.
        n_remaining: number of windows that further rounds of effort auto would add.
        cached: whether the features came from the cache.
    """

    segments: tuple[Segment, ...]
    info: AudioInfo
    quality: Quality
    descriptors: Descriptors
    content_blake3: str
    front_end_digest: str
    n_remaining: int = 0
    cached: bool = False


WindowValues = npt.NDArray[np.number]
"""Values of log-mel windows, (…, M, T); see `MelConfig.is_absolute`.

uint8: dB = x / 255 · top_db − top_db relative to each window's maximum. float16: absolute levels in
the unit of the checkpoint's front end.
"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrackFeatures:
    """Result of stage 1: the model's input for one track.

    Attributes:
        log_mel: (S, M, T) windows. Where the checkpoint allows it, they are one byte a value:
            small messages between the stages.
        facts: everything else that stage 1 found out.
        timings_ms: milliseconds per step of this stage.
        geometry_digest: digest of the geometry of the windows, "" if nobody said.
    """

    log_mel: WindowValues
    facts: TrackFacts
    timings_ms: dict[str, float] = field(default_factory=dict)
    geometry_digest: str = ""

    @property
    def n_windows(self) -> int:
        """S, the number of windows."""
        return len(self.log_mel)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInfo:
    """Which model answered.

    Attributes:
        name: name of the checkpoint.
        version: version of the checkpoint.
        digest: first 12 hex digits of the SHA-256 of its weights and config.
        device: where it ran, such as "cpu" or "cuda".
        precision: arithmetic: "fp32", "bf16" or "fp16".
    """

    name: str
    version: str
    digest: str
    device: str
    precision: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrackLogits:
    """Result of stage 2, with what stage 3 needs from stage 1.

    Attributes:
        logits: (S, C) float32, one row per window.
        facts: what stage 1 found out.
        model: which model answered.
        distance: mean over the windows of the cosine distance to the training data, in [0, 2];
            None where the checkpoint has no training features to compare with.
        music: mean over the windows of the log-odds of music over any other sound; None where the
            model has none.
        styles: (L,) mean over the windows of the score of each style, in [0, 1]; None where the
            model has no labels but its genres.
        timings_ms: milliseconds per step of stages 1 and 2.
        checkpoint: folder of the model's checkpoint, "" if nobody said.
    """

    logits: npt.NDArray[np.float32]
    facts: TrackFacts
    model: ModelInfo
    distance: float | None = None
    music: float | None = None
    styles: npt.NDArray[np.float32] | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    checkpoint: str = ""
