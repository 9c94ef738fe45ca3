"""Stage 3 assembled: logits of a track → calibrated prediction with uncertainty and reasons."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.digest import config_digest
from acoustic.errors import InvalidOptionError
from acoustic.labels import LabelSet
from acoustic.postprocess.aggregation import aggregate
from acoustic.postprocess.calibration import (
    Calibration,
    Logits,
    Probabilities,
    WindowCalibration,
    calibrated_probabilities,
    load_calibration,
    sigmoid,
)
from acoustic.postprocess.conformal import prediction_sets
from acoustic.postprocess.families import FamilyLimits, find_family
from acoustic.postprocess.postprocess_config import PostprocessConfig
from acoustic.postprocess.reasons import (
    NOT_CALIBRATED,
    Evidence,
    ReviewThresholds,
    find_reasons,
)
from acoustic.postprocess.rounds import RoundResult
from acoustic.postprocess.rules import Rules
from acoustic.postprocess.uncertainty import measure_uncertainty
from acoustic.prediction import (
    AppliedRule,
    CalibratedModel,
    Family,
    GenreScore,
    Prediction,
    PredictionSet,
    Reason,
    StyleScore,
    Uncertainty,
    WindowScore,
)
from acoustic.profiling import StageTimer
from acoustic.request import RequestOptions
from acoustic.styles import Styles
from acoustic.types import TrackLogits

DEFAULT_TOP_K = 5
MAX_STYLES = 10
DEFAULT_MIN_CONFIDENCE = 0.5
"""Confidence threshold when neither the settings nor the calibration set one."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Answered:
    """Probabilities of one track and what was read from them.

    Attributes:
        scores: all genres, most probable first.
        probabilities: (C,) after the rules.
        rules_applied: rules that changed them.
        members: prediction set, None where there is no quantile.
        uncertainty: how unsure the model is.
        reasons: why a person should look.
        family: answer one level up, or None.
        timeline: best genre of every window, where it was asked for.
    """

    scores: tuple[GenreScore, ...]
    probabilities: Probabilities
    rules_applied: tuple[AppliedRule, ...]
    members: PredictionSet | None
    uncertainty: Uncertainty
    reasons: tuple[Reason, ...] = ()
    family: Family | None = None
    timeline: tuple[WindowScore, ...] | None = None


class Postprocessor:
    """TrackLogits to Prediction.

    Args:
        labels: the C genres in the order of the logits.
        calibration: calibration of the model that made the logits.
        window_s: length of one model window, seconds.
        config: settings.
        styles: the model's own labels, None if its labels are the genres.

    Raises:
        ConfigError: a rule names a genre or a feature that does not exist.
    """

    def __init__(
        self,
        labels: LabelSet,
        calibration: Calibration,
        window_s: float,
        config: PostprocessConfig,
        styles: Styles | None = None,
    ) -> None:
        self._styles = styles
        self.config = config
        self.labels = labels
        self._fitted = calibration
        self.calibration = calibration.with_temperature(config.temperature)
        self._window_s = window_s
        self._rules = Rules(config.rules, labels)
        enabled = tuple(rule for rule in config.rules if rule.enabled)
        self._digest = config_digest(replace(config, rules=enabled), calibration)

    @classmethod
    def from_folder(
        cls, folder: CheckpointFolder, config: PostprocessConfig | None = None
    ) -> Postprocessor:
        """Stage 3 with a checkpoint's labels and calibration.

        Raises:
            CheckpointError: the calibration cannot be used.
            ConfigError: a rule names a genre or a feature that does not exist.
        """
        calibration = load_calibration(folder)
        stored = folder.manifest.styles
        styles = None if stored is None else Styles.from_dict(stored)
        config = config or PostprocessConfig()
        return cls(folder.labels, calibration, folder.mel.window_s, config, styles)

    def with_config(self, config: PostprocessConfig) -> Postprocessor:
        """The same checkpoint with other settings; nothing is read again.

        Raises:
            ConfigError: a rule names a genre or a feature that does not exist.
        """
        return Postprocessor(self.labels, self._fitted, self._window_s, config, self._styles)

    def process(self, track: TrackLogits, options: RequestOptions | None = None) -> Prediction:
        """Prediction of one track; see `process_round`."""
        return self.process_round(track, options).prediction

    def process_round(
        self, track: TrackLogits, options: RequestOptions | None = None
    ) -> RoundResult:
        """Prediction of one track, and whether effort auto should evaluate more of it.

        Args:
            track: (S, C) logits with the facts of stage 1.
            options: what the caller asked for; defaults if None.

        Raises:
            InvalidOptionError: top_k above C, or a coverage that the calibration does not support.
        """
        options = options or RequestOptions()
        options.check_model(len(self.labels))
        timer = StageTimer()
        with timer.stage("postprocess"):
            track = replace(track, logits=self.calibration.standardised(track.logits))
            fitted = self.calibration.at(len(track.logits))
            answered = self._answer(track, fitted, options.coverage)
            limits = self._limits(fitted)
            scores = answered.scores
            evidence = Evidence(
                scores=scores,
                uncertainty=answered.uncertainty,
                facts=track.facts,
                confusion=self._confusion(scores, answered.members),
                window_s=self._window_s,
            )
            reasons = find_reasons(evidence, limits)
            if not self.calibration.is_fitted:
                reasons = (NOT_CALIBRATED, *reasons)
            family = None
            if not self._are_scores:
                family = find_family(scores, self.labels, self._family_limits(fitted, limits))
            windows = self._timeline(track, fitted.temperature) if options.timeline else None
        answered = replace(answered, reasons=reasons, family=family, timeline=windows)
        prediction = self._assemble(track, options, fitted, answered, timer.timings_ms)
        margin = scores[0].probability - scores[1].probability
        wants_another = track.facts.n_remaining > 0 and margin < self.config.auto_margin
        return RoundResult(prediction=prediction, wants_another=wants_another)

    def _assemble(
        self,
        track: TrackLogits,
        options: RequestOptions,
        fitted: WindowCalibration,
        answered: _Answered,
        timings_ms: dict[str, float],
    ) -> Prediction:
        facts, model, scores = track.facts, track.model, answered.scores
        return Prediction(
            file=options.file,
            duration_s=facts.info.duration_s,
            format=facts.info.format,
            segments=tuple((each.start_s, each.end_s) for each in facts.segments),
            top_genre=scores[0].genre,
            confidence=scores[0].probability,
            predictions=scores[: options.top_k or DEFAULT_TOP_K],
            prediction_set=answered.members,
            family=answered.family,
            uncertainty=answered.uncertainty,
            needs_review=bool(answered.reasons),
            reasons=answered.reasons,
            rules_applied=answered.rules_applied,
            quality=facts.quality,
            descriptors=facts.descriptors,
            model=CalibratedModel(
                name=model.name,
                version=model.version,
                digest=model.digest,
                device=model.device,
                precision=model.precision,
                temperature=fitted.temperature,
                calibrated=self.calibration.is_fitted,
            ),
            config_digest=config_digest(facts.front_end_digest, self._digest),
            content_sha256=facts.content_sha256,
            cached=facts.cached,
            timings_ms={**track.timings_ms, **timings_ms},
            timeline=answered.timeline,
            styles=self._style_scores(track.styles),
        )

    @property
    def _are_scores(self) -> bool:
        """Whether the numbers are the model's scores: they belong to labels that do not add up."""
        return self._styles is not None and not self.calibration.is_fitted

    def _answer(
        self, track: TrackLogits, fitted: WindowCalibration, coverage: float | None
    ) -> _Answered:
        calibrated = aggregate(
            track.logits, fitted.temperature, self.config.aggregation, self.calibration.floor
        )
        probabilities, rules_applied = self._rules.apply(calibrated, track.facts)
        shown = self._scores(track.logits) if self._are_scores else probabilities
        # stable, so that equal probabilities keep the model's order and answers are reproducible
        ranking = np.argsort(-shown, kind="stable")
        return _Answered(
            scores=tuple(
                GenreScore(genre=self.labels.names[i], probability=float(shown[i])) for i in ranking
            ),
            probabilities=probabilities,
            rules_applied=rules_applied,
            members=self._prediction_set(calibrated, probabilities, fitted, coverage),
            uncertainty=measure_uncertainty(
                probabilities, track.logits, track.distance, track.music, fitted
            ),
        )

    def _prediction_set(
        self,
        calibrated: Probabilities,
        probabilities: Probabilities,
        fitted: WindowCalibration,
        coverage: float | None,
    ) -> PredictionSet | None:
        """The set by the probabilities before the rules, which the quantile was fitted to.

        The answer itself is always a member, so the coverage can only rise.
        """
        wanted = self.config.coverage if coverage is None else coverage
        method = self.config.set_method
        quantile = fitted.quantile(method, wanted)
        if quantile is None:
            if coverage is None:
                return None
            why = (
                f"the calibration rests on {self._basis()}"
                if self.config.temperature is None
                else f"the temperature is fixed at {self.config.temperature:g}"
            )
            raise InvalidOptionError(f"a coverage of {coverage:g} is not supported: {why}")
        members = prediction_sets(calibrated[None], quantile, method)[0]
        members[probabilities.argmax()] = True
        order = np.argsort(-probabilities, kind="stable")
        genres = tuple(self.labels.names[i] for i in order if members[i])
        return PredictionSet(coverage=round(wanted, 2), genres=genres)

    def _scores(self, logits: Logits) -> Probabilities:
        """(C,) mean scores of the genres in [0, 1], which do not sum to 1."""
        assert self._styles is not None
        of_windows = sigmoid(logits) if self._styles.output == "sigmoid" else np.exp(logits)
        return np.asarray(of_windows.mean(axis=0), np.float64)

    def _style_scores(
        self, scores: npt.NDArray[np.float32] | None
    ) -> tuple[StyleScore, ...] | None:
        """The highest scores of styles that reach their threshold."""
        styles = self._styles
        if styles is None or scores is None:
            return None
        best = np.argsort(-scores, kind="stable")[:MAX_STYLES]
        return tuple(
            StyleScore(name=styles.names[i], score=float(scores[i]), genre=styles.genres[i])
            for i in best
            if scores[i] >= styles.thresholds[i]
        )

    def _basis(self) -> str:
        n = self.calibration.n_collections
        tracks = f"{self.calibration.n_tracks} tracks"
        return f"{tracks} of {n} collections" if n else tracks

    def _limits(self, fitted: WindowCalibration) -> ReviewThresholds:
        """The configured thresholds; where they are None, those of the calibration."""
        configured = self.config.review
        confidence, is_fitted = fitted.review_threshold, self.calibration.is_fitted
        found: dict[str, Any] = {
            "min_confidence": DEFAULT_MIN_CONFIDENCE if confidence is None else confidence,
            "max_segment_disagreement": fitted.limits.get("segment_disagreement"),
            "max_distance": fitted.limits.get("distance"),
            "max_not_music": fitted.limits.get("not_music", None if is_fitted else 0.5),
        }
        missing = {k: v for k, v in found.items() if getattr(configured, k) is None}
        return replace(configured, **missing)

    def _family_limits(self, fitted: WindowCalibration, limits: ReviewThresholds) -> FamilyLimits:
        """From which probability a genre, and a family, is a reliable answer."""
        genre = limits.min_confidence or 0.0
        fitted_family = fitted.family_threshold
        return FamilyLimits(
            genre=genre,
            margin=limits.min_margin,
            family=genre if fitted_family is None else fitted_family,
        )

    def _confusion(
        self, scores: tuple[GenreScore, ...], members: PredictionSet | None
    ) -> tuple[str, float] | None:
        """The likeliest mistake of this answer that the prediction set does not rule out."""
        known = self.calibration.confusions.get(scores[0].genre, {})
        possible = members.genres if members else (scores[1].genre,)
        found = [(share, genre) for genre, share in known.items() if genre in possible]
        if not found:
            return None
        share, genre = max(found)
        return genre, share

    def _timeline(self, track: TrackLogits, temperature: float) -> tuple[WindowScore, ...]:
        windows = calibrated_probabilities(track.logits, temperature, self.calibration.floor)
        return tuple(
            WindowScore(
                start_s=segment.start_s,
                end_s=segment.end_s,
                genre=self.labels.names[int(row.argmax())],
                probability=float(row.max()),
            )
            for segment, row in zip(track.facts.segments, windows, strict=True)
        )
