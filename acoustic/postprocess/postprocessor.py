"""Stage 3 assembled: logits of a track → calibrated prediction with uncertainty and reasons."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from acoustic.digest import config_digest
from acoustic.errors import InvalidOptionError
from acoustic.labels import LabelSet
from acoustic.manifest import load_manifest
from acoustic.postprocess.aggregation import Aggregation, aggregate
from acoustic.postprocess.calibration import (
    Calibration,
    Probabilities,
    calibrated_probabilities,
    load_calibration,
)
from acoustic.postprocess.conformal import COVERAGES, SET_METHODS, SetMethod, prediction_sets
from acoustic.postprocess.families import find_family
from acoustic.postprocess.reasons import Evidence, ReviewThresholds, find_reasons
from acoustic.postprocess.rules import Rule, Rules
from acoustic.postprocess.uncertainty import measure_uncertainty
from acoustic.prediction import GenreScore, Prediction, PredictionSet, WindowScore
from acoustic.profiling import StageTimer
from acoustic.types import TrackLogits

COVERAGE_LIMITS = f"limits are {COVERAGES[0]:.2f} to {COVERAGES[-1]:.2f} in steps of 0.01"
USUAL_TOP_K = 5
UNFITTED_CONFIDENCE = 0.5
"""Where neither the settings nor the calibration say from where an answer is relied upon."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PostprocessConfig:
    """Settings of stage 3.

    Attributes:
        aggregation: from windows to the track.
        coverage: of the prediction set where the caller wants no other, 0.50 to 0.99.
        set_method: of the prediction set; see `conformal`.
        auto_margin: lead of the best genre over the second below which effort auto listens on,
            in [0, 1].
        rules: music-knowledge rules.
        review: thresholds of the review flag.
    """

    aggregation: Aggregation = "mean_probability"
    coverage: float = 0.9
    set_method: SetMethod = "lac"
    auto_margin: float = 0.2
    rules: tuple[Rule, ...] = ()
    review: ReviewThresholds = field(default_factory=ReviewThresholds)

    def __post_init__(self) -> None:
        if self.aggregation not in get_args(Aggregation):
            raise ValueError(f"unknown aggregation {self.aggregation!r}")
        if self.set_method not in SET_METHODS:
            raise ValueError(f"unknown set_method {self.set_method!r}")
        if round(self.coverage, 6) not in COVERAGES:
            raise ValueError(f"coverage is {self.coverage}, {COVERAGE_LIMITS}")
        if not 0 <= self.auto_margin <= 1:
            raise ValueError(f"auto_margin is {self.auto_margin}, limits are 0 to 1")


class Postprocessor:
    """TrackLogits to Prediction.

    Args:
        labels: the C genres in the order of the logits.
        calibration: of the model that made the logits.
        window_s: length of one model window, seconds.
        config: settings.

    Raises:
        ConfigError: a rule names a genre or a feature that does not exist.
    """

    def __init__(
        self,
        labels: LabelSet,
        calibration: Calibration,
        window_s: float,
        config: PostprocessConfig,
    ) -> None:
        self.config = config
        self.labels = labels
        self._calibration = calibration
        self._window_s = window_s
        self._rules = Rules(config.rules, labels)
        enabled = tuple(rule for rule in config.rules if rule.enabled)
        self._digest = config_digest(replace(config, rules=enabled), calibration)

    @classmethod
    def from_folder(cls, folder: Path, config: PostprocessConfig | None = None) -> Postprocessor:
        """Stage 3 with a checkpoint's labels and calibration.

        Raises:
            CheckpointError: the folder cannot be used.
            ConfigError: a rule names a genre or a feature that does not exist.
        """
        manifest = load_manifest(folder)
        calibration = load_calibration(folder, manifest.digest)
        config = config or PostprocessConfig()
        return cls(manifest.labels, calibration, manifest.mel.window_s, config)

    def process(
        self,
        track: TrackLogits,
        *,
        file: str = "",
        top_k: int | None = None,
        timeline: bool = False,
        coverage: float | None = None,
    ) -> Prediction:
        """Prediction of one track.

        Args:
            track: (S, C) logits with the summary of stage 1.
            file: name under which the audio came in.
            top_k: genres in the reply, 1 to C; None for five, or all where there are fewer.
            timeline: whether to list every window's own best genre.
            coverage: of the prediction set; None for the configured one.

        Raises:
            InvalidOptionError: top_k out of range, or a coverage that the calibration does not
                support.
        """
        check_top_k(top_k, len(self.labels))
        timer = StageTimer()
        with timer.stage("postprocess"):
            n_windows = len(track.logits)
            temperature = self._calibration.temperature(n_windows)
            calibrated = aggregate(
                track.logits, temperature, self.config.aggregation, self._calibration.floor
            )
            probabilities, rules_applied = self._rules.apply(calibrated, track.features)
            ranking = np.argsort(-probabilities, kind="stable")
            scores = tuple(self._score(int(i), float(probabilities[i])) for i in ranking)
            uncertainty = measure_uncertainty(
                probabilities, track.logits, track.distance, self._calibration
            )
            members = self._prediction_set(calibrated, probabilities, n_windows, coverage)
            limits = self._limits(n_windows)
            family = find_family(
                scores, self.labels, limits.min_confidence or 0.0, limits.min_margin
            )
            evidence = Evidence(
                scores=scores,
                uncertainty=uncertainty,
                features=track.features,
                confusion=self._confusion(scores, members),
                window_s=self._window_s,
            )
            reasons = find_reasons(evidence, limits)
            windows = self._timeline(track, temperature) if timeline else None
        return Prediction(
            file=file,
            features=track.features,
            predictions=scores[: USUAL_TOP_K if top_k is None else top_k],
            prediction_set=members,
            family=family,
            uncertainty=uncertainty,
            needs_review=bool(reasons),
            reasons=reasons,
            rules_applied=rules_applied,
            listen_on=self._listens_on(scores, track),
            timeline=windows,
            model=track.model,
            temperature=temperature,
            config_digest=config_digest(track.features.front_end_digest, self._digest),
            timings_ms={**track.timings_ms, **timer.timings_ms},
        )

    def _listens_on(self, scores: tuple[GenreScore, ...], track: TrackLogits) -> bool:
        margin = scores[0].probability - scores[1].probability
        return track.features.n_unheard > 0 and margin < self.config.auto_margin

    def _prediction_set(
        self,
        calibrated: Probabilities,
        probabilities: Probabilities,
        n_windows: int,
        coverage: float | None,
    ) -> PredictionSet | None:
        """By the probabilities before the rules, which the quantile was fitted to.

        The answer itself is always in, so that the coverage can only rise.
        """
        wanted = self.config.coverage if coverage is None else check_coverage(coverage)
        method = self.config.set_method
        quantile = self._calibration.quantile(method, n_windows, wanted)
        if quantile is None:
            if coverage is None:
                return None
            raise InvalidOptionError(
                f"a coverage of {coverage:g} is not supported: the calibration rests on "
                f"{self._calibration.n_tracks} tracks"
            )
        members = prediction_sets(calibrated[None], quantile, method)[0]
        members[probabilities.argmax()] = True
        order = np.argsort(-probabilities, kind="stable")
        genres = tuple(self.labels.names[i] for i in order if members[i])
        return PredictionSet(coverage=round(wanted, 2), genres=genres)

    def _limits(self, n_windows: int) -> ReviewThresholds:
        """The configured thresholds; where they say None, those of the calibration."""
        configured, fitted = self.config.review, self._calibration
        confidence = fitted.review_threshold(n_windows)
        found: dict[str, Any] = {
            "min_confidence": UNFITTED_CONFIDENCE if confidence is None else confidence,
            "max_segment_disagreement": fitted.limit("segment_disagreement", n_windows),
            "max_distance": fitted.limit("distance", n_windows),
        }
        missing = {k: v for k, v in found.items() if getattr(configured, k) is None}
        return replace(configured, **missing)

    def _confusion(
        self, scores: tuple[GenreScore, ...], members: PredictionSet | None
    ) -> tuple[str, float] | None:
        """The likeliest mistake of this answer that the prediction set does not rule out."""
        known = self._calibration.confusions.get(scores[0].genre, {})
        possible = members.genres if members else (scores[1].genre,)
        found = [(share, genre) for genre, share in known.items() if genre in possible]
        if not found:
            return None
        share, genre = max(found)
        return genre, share

    def _timeline(self, track: TrackLogits, temperature: float) -> tuple[WindowScore, ...]:
        windows = calibrated_probabilities(track.logits, temperature, self._calibration.floor)
        return tuple(
            WindowScore(
                segment=segment,
                genre=self.labels.names[int(row.argmax())],
                probability=float(row.max()),
            )
            for segment, row in zip(track.features.segments, windows, strict=True)
        )

    def _score(self, index: int, probability: float) -> GenreScore:
        return GenreScore(genre=self.labels.names[index], probability=probability)


def check_coverage(coverage: float) -> float:
    """Refuse a coverage for which no quantile is ever stored.

    Raises:
        InvalidOptionError: not within 0.50 to 0.99 in steps of 0.01.
    """
    if round(coverage, 6) not in COVERAGES:
        raise InvalidOptionError(f"coverage is {coverage:g}, {COVERAGE_LIMITS}")
    return coverage


def check_top_k(top_k: int | None, n_classes: int) -> None:
    """Refuse a number of genres that the model cannot list.

    Raises:
        InvalidOptionError: not within 1 to C.
    """
    if top_k is not None and not 1 <= top_k <= n_classes:
        raise InvalidOptionError(f"top_k is {top_k}, limits are 1 to {n_classes}")
