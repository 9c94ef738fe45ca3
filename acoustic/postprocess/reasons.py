"""Why a person should look: each reason is a named number that passed its threshold.

code                 number                                       passes when
LOW_CONFIDENCE       probability of the best genre                below
CLOSE_RIVAL          best − second best probability               below
SEGMENTS_DISAGREE    variation ratio of the windows               above
TOO_SHORT            seconds of audio, against one model window   below
MOSTLY_SILENT        share of silent frames                       above
CLIPPED              share of samples at full scale               above
NARROW_BAND          upper edge of the spectrum, Hz               below
"""

from __future__ import annotations

from dataclasses import dataclass

from acoustic.prediction import GenreScore, Reason, Uncertainty
from acoustic.types import FeatureSummary


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviewThresholds:
    """Limits of the reasons; operators change them in the running service.

    Attributes:
        min_confidence: probability in [0, 1]; None for the one that the calibration found for its
            review accuracy.
        min_margin: probability in [0, 1].
        max_variation_ratio: in [0, 1].
        max_silence_ratio: in [0, 1].
        max_clipping_ratio: in [0, 1].
        min_bandwidth_hz: Hz.
    """

    min_confidence: float | None = None
    min_margin: float = 0.15
    max_variation_ratio: float = 0.5
    max_silence_ratio: float = 0.5
    max_clipping_ratio: float = 0.01
    min_bandwidth_hz: float = 4_000.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is None:
                continue
            if value < 0 or (name != "min_bandwidth_hz" and value > 1):
                raise ValueError(f"{name} is {value}, outside its range")


def find_reasons(
    scores: tuple[GenreScore, ...],
    uncertainty: Uncertainty,
    features: FeatureSummary,
    window_s: float,
    limits: ReviewThresholds,
    min_confidence: float,
) -> tuple[Reason, ...]:
    """All reasons that hold, in the order of the module's table.

    Args:
        scores: all genres, most probable first.
        uncertainty: of the same track.
        features: container facts and quality.
        window_s: length of one model window, seconds.
        limits: thresholds.
        min_confidence: the probability from which an answer is relied upon.
    """
    best, rival = scores[0], scores[1]
    quality, duration_s = features.quality, features.info.duration_s
    margin = best.probability - rival.probability
    candidates = [
        _below("LOW_CONFIDENCE", best.probability, min_confidence,
               f"{best.genre} is only {best.probability:.0%} probable."),
        _below("CLOSE_RIVAL", margin, limits.min_margin,
               f"{rival.genre} is almost as probable as {best.genre}."),
        _above("SEGMENTS_DISAGREE", uncertainty.variation_ratio, limits.max_variation_ratio,
               "Different parts of the track sound like different genres."),
        None if duration_s is None else _below("TOO_SHORT", duration_s, window_s,
               f"There are only {duration_s:.1f} s of audio."),
        _above("MOSTLY_SILENT", quality.silence_ratio, limits.max_silence_ratio,
               f"{quality.silence_ratio:.0%} of what was heard is silence."),
        _above("CLIPPED", quality.clipping_ratio, limits.max_clipping_ratio,
               "The recording is distorted: many samples are at full scale."),
        _below("NARROW_BAND", quality.bandwidth_hz, limits.min_bandwidth_hz,
               f"There is no sound above {quality.bandwidth_hz:,.0f} Hz."),
    ]  # fmt: skip
    return tuple(reason for reason in candidates if reason is not None)


def _below(code: str, value: float, threshold: float, message: str) -> Reason | None:
    if value >= threshold:
        return None
    return Reason(code=code, value=value, threshold=threshold, message=message)


def _above(code: str, value: float, threshold: float, message: str) -> Reason | None:
    if value <= threshold:
        return None
    return Reason(code=code, value=value, threshold=threshold, message=message)
