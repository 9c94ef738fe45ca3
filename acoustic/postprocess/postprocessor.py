"""Stage 3 assembled: logits of a track → calibrated prediction with uncertainty and reasons."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.digest import config_digest
from acoustic.errors import ConfigError, InvalidOptionError
from acoustic.labels import LabelSet
from acoustic.postprocess.aggregation import aggregate
from acoustic.postprocess.calibration import (
    Calibration,
    Probabilities,
    WindowCalibration,
    calibrated_probabilities,
    load_calibration,
)
from acoustic.postprocess.conformal import SetMethod, prediction_sets
from acoustic.postprocess.families import find_family
from acoustic.postprocess.limits import family_limits, review_limits
from acoustic.postprocess.postprocess_config import PostprocessConfig
from acoustic.postprocess.reasons import (
    NOT_CALIBRATED,
    Evidence,
    find_reasons,
)
from acoustic.postprocess.rounds import RoundResult
from acoustic.postprocess.rules import Rules
from acoustic.postprocess.style_scores import best_styles, genre_scores
from acoustic.postprocess.taxonomy import GenreMap
from acoustic.postprocess.uncertainty import inverse_margin, measure_uncertainty
from acoustic.prediction import (
    AppliedRule,
    CalibratedModel,
    Family,
    GenreScore,
    Prediction,
    PredictionSet,
    Reason,
    Uncertainty,
    WindowScore,
)
from acoustic.profiling import StageTimer
from acoustic.request import COVERAGES, RequestOptions
from acoustic.styles import Styles
from acoustic.types import TrackLogits

DEFAULT_TOP_K = 5


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Answered:
    """Probabilities of one track and what was read from them.

    Attributes:
        scores: all genres, most probable first.
        left_out: probability of the genres that the taxonomy leaves out.
        rules_applied: rules that changed them.
        members: prediction set, None where there is no quantile.
        uncertainty: how unsure the model is.
        reasons: why a person should look.
        family: answer one level up, or None.
        timeline: best genre of every window, where it was asked for.
        all_members: prediction sets of all coverages, where they were asked for.
    """

    scores: tuple[GenreScore, ...]
    left_out: float
    rules_applied: tuple[AppliedRule, ...]
    members: PredictionSet | None
    uncertainty: Uncertainty
    reasons: tuple[Reason, ...] = ()
    family: Family | None = None
    timeline: tuple[WindowScore, ...] | None = None
    all_members: tuple[PredictionSet, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Sets:
    """Prediction sets of one track.

    They go by the probabilities before the rules, which the quantiles were fitted to. The answer
    itself is always a member, so the coverage can only rise.

    Attributes:
        method: score function.
        calibrated: probabilities before the rules.
        probabilities: those of the answer, before genres are joined.
        genres: genres of the answer.
    """

    method: SetMethod
    calibrated: Probabilities
    probabilities: Probabilities
    genres: GenreMap

    def at(self, coverage: float, quantile: float) -> PredictionSet:
        """The set with a stated coverage."""
        genres, calibrated = self.genres, self.calibrated
        # with fewer genres possible a set may lose one by the cumulative methods: keep it
        members = prediction_sets(calibrated[None], quantile, self.method)[0]
        members |= prediction_sets(genres.possible(calibrated)[None], quantile, self.method)[0]
        joined, joined_members = genres.join(self.probabilities), genres.join_set(members)
        joined_members[joined.argmax()] = True
        order = np.argsort(-joined, kind="stable")
        names = tuple(genres.labels.names[i] for i in order if joined_members[i])
        return PredictionSet(coverage=round(coverage, 2), genres=names)


class Postprocessor:
    """TrackLogits to Prediction.

    Args:
        labels: the C genres in the order of the logits.
        calibration: calibration of the model that made the logits.
        shortest_s: length of a track below which an answer is doubtful, seconds.
        config: settings.
        styles: the model's own labels, None if its labels are the genres.

    Attributes:
        digest: digest of the settings and the calibration, taxonomies excepted.

    Raises:
        ConfigError: a rule names a genre or a feature that does not exist.
    """

    def __init__(
        self,
        labels: LabelSet,
        calibration: Calibration,
        shortest_s: float,
        config: PostprocessConfig,
        styles: Styles | None = None,
    ) -> None:
        self._styles = styles
        self.config = config
        self.labels = labels
        self._fitted = calibration
        self.calibration = calibration.with_temperature(config.temperature)
        self._shortest_s = shortest_s
        self._rules = Rules(config.rules, labels)
        self._genres = {"": GenreMap(labels)}
        self._unfit: dict[str, str] = {}
        for taxonomy in config.taxonomies:
            try:
                self._genres[taxonomy.name] = GenreMap(labels, taxonomy)
            except ConfigError as error:  # it may be made for another model of the service
                self._unfit[taxonomy.name] = error.message
        enabled = tuple(rule for rule in config.rules if rule.enabled)
        self.digest = config_digest(replace(config, rules=enabled, taxonomies=()), calibration)

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
        return cls(folder.labels, calibration, folder.mel.shortest_s, config, styles)

    def with_config(self, config: PostprocessConfig) -> Postprocessor:
        """The same checkpoint with other settings; nothing is read again.

        Raises:
            ConfigError: a rule names a genre or a feature that does not exist.
        """
        return Postprocessor(self.labels, self._fitted, self._shortest_s, config, self._styles)

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
        genres = self._genre_map(options.taxonomy)
        options.check_model(len(genres.labels))
        timer = StageTimer()
        with timer.stage("postprocess"):
            track = replace(track, logits=self.calibration.standardised(track.logits))
            fitted = self.calibration.at(len(track.logits))
            answered = self._answer(track, fitted, options, genres)
            limits = review_limits(self.config.review, self.calibration, fitted)
            scores = answered.scores
            evidence = Evidence(
                scores=scores,
                uncertainty=answered.uncertainty,
                facts=track.facts,
                confusion=self._confusion(scores, answered.members, genres),
                shortest_s=self._shortest_s,
                left_out=answered.left_out,
            )
            reasons = find_reasons(evidence, limits)
            if not self.calibration.is_fitted:
                reasons = (NOT_CALIBRATED, *reasons)
            family = None
            if not self._are_scores:  # scores do not add up
                family = find_family(scores, genres.labels, family_limits(fitted, limits))
            windows = (
                self._timeline(track, fitted.temperature, genres) if options.timeline else None
            )
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
        genres, styles = self._genre_map(options.taxonomy), None
        if self._styles is not None and track.styles is not None:
            styles = best_styles(self._styles, track.styles, genres)
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
            config_digest=_answer_digest(facts.front_end_digest, self.digest, genres),
            content_blake3=facts.content_blake3,
            cached=facts.cached,
            timings_ms={**track.timings_ms, **timings_ms},
            timeline=answered.timeline,
            prediction_sets=answered.all_members,
            styles=styles,
        )

    def labels_of(self, taxonomy: str) -> LabelSet:
        """The genres of answers by a taxonomy; "" for the model's own.

        Raises:
            InvalidOptionError: there is no taxonomy of that name.
        """
        return self._genre_map(taxonomy).labels

    def _genre_map(self, taxonomy: str) -> GenreMap:
        """The genres of the answer."""
        if taxonomy in self._unfit:
            raise InvalidOptionError(self._unfit[taxonomy])
        if taxonomy not in self._genres:
            known = ", ".join(name for name in self._genres if name) or "none"
            raise InvalidOptionError(f"taxonomy is {taxonomy[:64]!r}, known are {known}")
        return self._genres[taxonomy]

    def config_digest_of(self, front_end_digest: str, digest: str, taxonomy: str) -> str:
        """The config digest of answers, before there is one.

        Args:
            front_end_digest: digest of the settings of stage 1.
            digest: attribute `digest` of the stage 3 that answers.
            taxonomy: name of the taxonomy, "" for the model's own genres.
        """
        return _answer_digest(front_end_digest, digest, self._genre_map(taxonomy))

    def _answer(
        self,
        track: TrackLogits,
        fitted: WindowCalibration,
        options: RequestOptions,
        genres: GenreMap,
    ) -> _Answered:
        if self._are_scores:
            return self._answer_by_scores(track, fitted, options, genres)
        calibrated = aggregate(
            track.logits, fitted.temperature, self.config.aggregation, self.calibration.floor
        )
        probabilities, rules_applied = self._rules.apply(calibrated, track.facts)
        left_out = genres.left_out(probabilities)
        probabilities = genres.possible(probabilities)
        joined = genres.join(probabilities)
        quantile = self._quantile(fitted, options.coverage)
        sets = _Sets(self.config.set_method, calibrated, probabilities, genres)
        return _Answered(
            scores=_ranked(joined, genres),
            left_out=left_out,
            rules_applied=rules_applied,
            members=sets.at(*quantile) if quantile else None,
            all_members=self._all_sets(sets, fitted) if options.sets else None,
            uncertainty=measure_uncertainty(
                joined, track.logits, track.distance, track.music, fitted
            ),
        )

    @property
    def _are_scores(self) -> bool:
        """Whether the numbers are scores of labels, because no probabilities were fitted."""
        return self._styles is not None and not self.calibration.is_fitted

    def _answer_by_scores(
        self,
        track: TrackLogits,
        fitted: WindowCalibration,
        options: RequestOptions,
        genres: GenreMap,
    ) -> _Answered:
        """Rules and sets need probabilities; what is uncertain is read from the scores' shares."""
        assert self._styles is not None
        if options.coverage is not None:
            raise InvalidOptionError(
                f"a coverage of {options.coverage:g} is not supported: the model is not calibrated"
            )
        scores = genres.join_scores(genre_scores(self._styles, track.logits))
        shares = scores / max(float(scores.sum()), 1e-12)
        uncertainty = measure_uncertainty(shares, track.logits, track.distance, track.music, fitted)
        return _Answered(
            scores=_ranked(scores, genres),
            left_out=0.0,
            rules_applied=(),
            members=None,
            all_members=() if options.sets else None,
            uncertainty=replace(uncertainty, margin=inverse_margin(scores)),
        )

    def _quantile(
        self, fitted: WindowCalibration, coverage: float | None
    ) -> tuple[float, float] | None:
        """Coverage and quantile of the wanted set; None where the configured one has none.

        Raises:
            InvalidOptionError: the calibration does not support the coverage of the request.
        """
        wanted = self.config.coverage if coverage is None else coverage
        quantile = fitted.quantile(self.config.set_method, wanted)
        if quantile is None:
            if coverage is None:
                return None
            why = (
                f"the calibration rests on {self._basis()}"
                if self.config.temperature is None
                else f"the temperature is fixed at {self.config.temperature:g}"
            )
            raise InvalidOptionError(f"a coverage of {coverage:g} is not supported: {why}")
        return wanted, quantile

    def _all_sets(self, sets: _Sets, fitted: WindowCalibration) -> tuple[PredictionSet, ...]:
        """The sets of all coverages that the calibration supports."""
        known = ((c, fitted.quantile(self.config.set_method, c)) for c in COVERAGES)
        return tuple(sets.at(c, quantile) for c, quantile in known if quantile is not None)

    def _basis(self) -> str:
        n = self.calibration.n_collections
        tracks = f"{self.calibration.n_tracks} tracks"
        return f"{tracks} of {n} collections" if n else tracks

    def _confusion(
        self, scores: tuple[GenreScore, ...], members: PredictionSet | None, genres: GenreMap
    ) -> tuple[str, float] | None:
        """The likeliest mistake of this answer that the prediction set does not rule out.

        It was counted for single genres: nothing is known about joined ones.
        """
        answered = genres.only_part(scores[0].genre)
        known = self.calibration.confusions.get(answered or "", {})
        possible = members.genres if members else (scores[1].genre,)
        named = [(share, genres.name_of(genre)) for genre, share in known.items()]
        found = [(share, name) for share, name in named if name is not None and name in possible]
        if not found:
            return None
        share, genre = max(found)
        return genre, share

    def _timeline(
        self, track: TrackLogits, temperature: float, genres: GenreMap
    ) -> tuple[WindowScore, ...]:
        if self._are_scores:
            assert self._styles is not None
            rows = [genre_scores(self._styles, row[None]) for row in track.logits]
            windows = np.stack([genres.join_scores(row) for row in rows])
        else:
            of_model = calibrated_probabilities(track.logits, temperature, self.calibration.floor)
            windows = genres.join(genres.possible(of_model))
        return tuple(
            WindowScore(
                start_s=segment.start_s,
                end_s=segment.end_s,
                genre=genres.labels.names[int(row.argmax())],
                probability=float(row.max()),
            )
            for segment, row in zip(track.facts.segments, windows, strict=True)
        )


def _answer_digest(front_end_digest: str, digest: str, genres: GenreMap) -> str:
    applied = () if genres.taxonomy is None else (genres.taxonomy,)
    return config_digest(front_end_digest, digest, *applied)


def _ranked(values: Probabilities, genres: GenreMap) -> tuple[GenreScore, ...]:
    """All genres, best first; stable, so that equal ones keep the model's order."""
    return tuple(
        GenreScore(genre=genres.labels.names[i], probability=float(values[i]))
        for i in np.argsort(-values, kind="stable")
    )
