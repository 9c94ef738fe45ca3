"""The reply: what stage 3 says of a track.

`Prediction.to_dict()` is the one schema of every answer: HTTP body, table row, command output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from acoustic.types import FeatureSummary, ModelInfo, Segment


@dataclass(frozen=True, kw_only=True, slots=True)
class GenreScore:
    """A genre and its calibrated probability in [0, 1]."""

    genre: str
    probability: float

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"genre": self.genre, "probability": round(self.probability, 6)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Uncertainty:
    """How unsure the model is, each in [0, 1], 0 = sure.

    Attributes:
        entropy: of the track's probabilities, over log C.
        margin: 1 − (best − second best).
        variation_ratio: share of windows whose own best genre is not the track's most frequent.
        segment_disagreement: how differently the parts before and after some point answer.
        distance: from the training data; 0.5 is the median of the calibration tracks, 0.95 their
            95th percentile. None where the calibration has no scale for it.
    """

    entropy: float
    margin: float
    variation_ratio: float
    segment_disagreement: float
    distance: float | None

    def to_dict(self) -> dict[str, float | None]:
        """JSON form."""
        return {
            "entropy": round(self.entropy, 6),
            "margin": round(self.margin, 6),
            "variation_ratio": round(self.variation_ratio, 6),
            "segment_disagreement": round(self.segment_disagreement, 6),
            "distance": None if self.distance is None else round(self.distance, 6),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """Why a person should look: a number that passed its threshold.

    Attributes:
        code: stable upper-case name, such as "CLOSE_RIVAL".
        value: the number. threshold: the limit it passed.
        message: one sentence that a person understands.
    """

    code: str
    value: float
    threshold: float
    message: str

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "code": self.code,
            "value": round(self.value, 6),
            "threshold": self.threshold,
            "message": self.message,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionSet:
    """Genres that hold the true one with a stated probability.

    Attributes:
        coverage: that probability, over tracks like those of the calibration.
        genres: most probable first, at least one.
    """

    coverage: float
    genres: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"coverage": self.coverage, "genres": list(self.genres)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """Genres with one parent, where the family is sure and the genre is not.

    Attributes:
        name: of the family.
        probability: of its genres together.
        genres: its genres, most probable first.
    """

    name: str
    probability: float
    genres: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "name": self.name,
            "probability": round(self.probability, 6),
            "genres": list(self.genres),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class AppliedRule:
    """A music-knowledge rule that fired.

    Attributes:
        name: of the rule.
        genres: whose odds it changed.
        log_odds: by how much.
        before: probability of its genres together, before it.
        after: the same after it.
    """

    name: str
    genres: tuple[str, ...]
    log_odds: float
    before: float
    after: float

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "name": self.name,
            "genres": list(self.genres),
            "log_odds": round(self.log_odds, 4),
            "before": round(self.before, 6),
            "after": round(self.after, 6),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowScore:
    """One window's own best genre, for the timeline."""

    segment: Segment
    genre: str
    probability: float

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "start_s": round(self.segment.start_s, 3),
            "end_s": round(self.segment.end_s, 3),
            "genre": self.genre,
            "probability": round(self.probability, 6),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """All that is said of one track.

    Attributes:
        file: the name under which the audio came in, "" if none.
        features: container facts, quality, descriptors and heard segments.
        predictions: the top genres, most probable first.
        prediction_set: genres that hold the true one with a stated probability; None where the
            calibration has no quantile for the configured coverage.
        family: the answer one level up, None unless the genre is unsure and the family is not.
        uncertainty: how unsure.
        needs_review: whether a person should look.
        reasons: why, empty when nothing stands out.
        rules_applied: knowledge rules that changed the probabilities, in their order.
        listen_on: whether effort auto should hear more before it answers; not part of the reply.
        timeline: one entry a window, None unless asked for.
        model: which model answered.
        temperature: that calibrated the probabilities.
        config_digest: of the settings that the numbers depend on.
        timings_ms: milliseconds per step.
    """

    file: str
    features: FeatureSummary
    predictions: tuple[GenreScore, ...]
    prediction_set: PredictionSet | None
    family: Family | None
    uncertainty: Uncertainty
    needs_review: bool
    reasons: tuple[Reason, ...]
    rules_applied: tuple[AppliedRule, ...]
    listen_on: bool
    timeline: tuple[WindowScore, ...] | None
    model: ModelInfo
    temperature: float
    config_digest: str
    timings_ms: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The one schema of every answer, JSON-ready and free of NaN."""
        info, quality = self.features.info, self.features.quality
        descriptors = self.features.descriptors
        best = self.predictions[0]
        body: dict[str, Any] = {
            "file": self.file,
            "duration_s": None if info.duration_s is None else round(info.duration_s, 3),
            "format": info.format,
            "segments": [
                [round(segment.start_s, 3), round(segment.end_s, 3)]
                for segment in self.features.segments
            ],
            "top_genre": best.genre,
            "confidence": round(best.probability, 6),
            "predictions": [score.to_dict() for score in self.predictions],
            "prediction_set": None
            if self.prediction_set is None
            else self.prediction_set.to_dict(),
            "family": None if self.family is None else self.family.to_dict(),
            "uncertainty": self.uncertainty.to_dict(),
            "needs_review": self.needs_review,
            "reasons": [reason.to_dict() for reason in self.reasons],
            "rules_applied": [rule.to_dict() for rule in self.rules_applied],
            "quality": {
                "rms_db": round(quality.rms_db, 2),
                "silence_ratio": round(quality.silence_ratio, 4),
                "clipping_ratio": round(quality.clipping_ratio, 6),
                "bandwidth_hz": round(quality.bandwidth_hz, 1),
                "snr_estimate_db": round(quality.snr_estimate_db, 2),
            },
            "descriptors": {
                "tempo_bpm": round(descriptors.tempo_bpm, 1),
                "tempo_confidence": round(descriptors.tempo_confidence, 4),
                "beat_strength": round(descriptors.beat_strength, 4),
                "low_frequency_ratio": round(descriptors.low_frequency_ratio, 4),
                "vocal_proxy": round(descriptors.vocal_proxy, 4),
            },
            "model": {
                "name": self.model.name,
                "version": self.model.version,
                "digest": self.model.digest,
                "device": self.model.device,
                "precision": self.model.precision,
                "temperature": round(self.temperature, 4),
            },
            "config_digest": self.config_digest,
            "content_sha256": self.features.content_sha256,
            "cached": self.features.cached,
            "timings_ms": {name: round(ms, 3) for name, ms in self.timings_ms.items()},
        }
        if self.timeline is not None:
            body["timeline"] = [window.to_dict() for window in self.timeline]
        return body
