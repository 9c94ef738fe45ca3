"""The answer about one track. Its fields are the one schema of every answer: the HTTP body and its
OpenAPI document, the rows of a batch job and the output of the command line follow from them.
"""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from typing import Annotated, Any

from acoustic.errors import AcousticError
from acoustic.schema import Digits3, Digits4, Digits6, OmittedWhenNone, to_plain
from acoustic.types import Descriptors, ModelInfo, Quality

NOT_MUSIC = "NOT_MUSIC"
"""Code of the reason for sounds that do not resemble music."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenreScore:
    """A genre and its calibrated probability.

    Attributes:
        genre: name of the genre.
        probability: calibrated probability, in [0, 1].
    """

    genre: str
    probability: Digits6


@dataclass(frozen=True, kw_only=True, slots=True)
class StyleScore:
    """One of the model's own labels, finer than the genres.

    Attributes:
        name: name of the label, as the model has it.
        score: the model's score of it, mean over the windows, in [0, 1]; not calibrated.
        genre: name of the genre that it counts for; null for none.
    """

    name: str
    score: Digits4
    genre: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Uncertainty:
    """How unsure the model is, each number in [0, 1], 0 = sure.

    Attributes:
        entropy: entropy of the track's probabilities over its maximum, log C.
        margin: 1 − (best − second best probability).
        variation_ratio: share of windows whose own best genre is not the most frequent one.
        segment_disagreement: how differently the parts before and after some point are answered.
        distance: distance from the training data; 0.5 is the median of the calibration tracks,
            0.95 their 95th percentile; null where the calibration has no scale for it.
        not_music: how much more it sounds like speech, noise or anything else than like music, on
            the same scale; null where the model or the calibration does not know.
    """

    entropy: Digits6
    margin: Digits6
    variation_ratio: Digits6
    segment_disagreement: Digits6
    distance: Digits6 | None
    not_music: Digits6 | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """Why a person should look: a number that passed its threshold.

    Attributes:
        code: stable upper-case name, such as "CLOSE_RIVAL".
        value: number that passed its threshold.
        threshold: limit that the number passed.
        message: one sentence for people.
    """

    code: str
    value: Digits6
    threshold: float
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionSet:
    """Genres that hold the true one with a stated probability.

    Attributes:
        coverage: probability that the set contains the true genre, over tracks like those of the
            calibration.
        genres: names of the genres, most probable first, at least one.
    """

    coverage: float
    genres: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """The answer one level up, where the family is sure and the genre is not.

    Attributes:
        name: name of the family.
        probability: probability of its genres together, in [0, 1].
        genres: names of its genres, most probable first.
    """

    name: str
    probability: Digits6
    genres: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class AppliedRule:
    """A music-knowledge rule that changed the probabilities.

    Attributes:
        name: name of the rule.
        genres: names of the genres whose odds it changed.
        log_odds: change of the odds, natural logarithm.
        before: probability of its genres together before the rule, in [0, 1].
        after: probability of its genres together after the rule, in [0, 1].
    """

    name: str
    genres: tuple[str, ...]
    log_odds: Digits4
    before: Digits6
    after: Digits6


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowScore:
    """The best genre of one window.

    Attributes:
        start_s: start of the window in the track, seconds.
        end_s: end of the window in the track, seconds.
        genre: best genre of this window.
        probability: calibrated probability of the genre in this window, in [0, 1].
    """

    start_s: Digits3
    end_s: Digits3
    genre: str
    probability: Digits6


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibratedModel(ModelInfo):
    """Which model answered, and how it was calibrated.

    Attributes:
        name: name of the checkpoint.
        version: version of the checkpoint.
        digest: first 12 hex digits of the SHA-256 of its weights and config.
        device: where it ran, such as "cpu" or "cuda".
        precision: arithmetic: "fp32", "bf16" or "fp16".
        temperature: temperature that calibrated the probabilities.
        calibrated: whether probabilities were fitted to labelled music; where not, they are the
            model's scores, which do not say how often it is right.
    """

    temperature: Digits4
    calibrated: bool


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Prediction:
    """The answer about one track.

    Attributes:
        file: name under which the audio came in, "" if none.
        duration_s: length of the track, seconds; null where the container does not state it.
        format: container or codec name, such as "MP3".
        segments: start and end of every evaluated window, seconds.
        top_genre: most probable genre.
        confidence: calibrated probability of the most probable genre, in [0, 1].
        predictions: top genres, most probable first.
        prediction_set: genres that hold the true one with a stated probability; null where the
            calibration has no quantile for the configured coverage.
        family: answer one level up; null unless the genre is unsure and its family is not.
        uncertainty: how unsure the model is.
        needs_review: whether a person should look.
        reasons: why a person should look; empty when nothing stands out.
        rules_applied: music-knowledge rules that changed the probabilities, in their order.
        quality: numbers about the sound.
        descriptors: numbers about the music.
        model: which model answered.
        config_digest: digest of the settings that the numbers depend on.
        content_blake3: BLAKE3 digest of the file's bytes in hex, "" where nobody needed it.
        cached: whether the answer or its features came from a cache.
        timings_ms: milliseconds per step.
        timeline: best genre of every window; only where it was asked for.
        prediction_sets: prediction set at every coverage that the calibration supports; only where
            they were asked for.
        styles: up to ten of the model's own labels with the highest scores; only of models whose
            labels are finer than genres.
    """

    file: str
    duration_s: Digits3 | None
    format: str
    segments: tuple[tuple[Digits3, Digits3], ...]
    top_genre: str
    confidence: Digits6
    predictions: tuple[GenreScore, ...]
    prediction_set: PredictionSet | None
    family: Family | None
    uncertainty: Uncertainty
    needs_review: bool
    reasons: tuple[Reason, ...]
    rules_applied: tuple[AppliedRule, ...]
    quality: Quality
    descriptors: Descriptors
    model: CalibratedModel
    config_digest: str
    content_blake3: str
    cached: bool
    timings_ms: dict[str, Digits3]
    timeline: Annotated[tuple[WindowScore, ...] | None, OmittedWhenNone()] = None
    prediction_sets: Annotated[tuple[PredictionSet, ...] | None, OmittedWhenNone()] = None
    styles: Annotated[tuple[StyleScore, ...] | None, OmittedWhenNone()] = None

    @property
    def genre(self) -> str:
        """Most probable genre, the same as `top_genre`."""
        return self.top_genre

    @property
    def is_music(self) -> bool:
        """Whether the sound resembles the music that the model was trained on."""
        return all(reason.code != NOT_MUSIC for reason in self.reasons)

    def genres(self, k: int | None = None) -> tuple[str, ...]:
        """Names of the k most probable genres; all that the answer lists where k is None."""
        return tuple(score.genre for score in self.predictions[:k])

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the answer: rounded, free of NaN."""
        body: dict[str, Any] = to_plain(self)
        return body

    def to_json(self) -> str:
        """The JSON object as one line of text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def __repr__(self) -> str:
        """One line: file, genre, confidence, what else it could be, reasons."""
        others = ", ".join(self.prediction_set.genres) if self.prediction_set else "no set"
        reasons = ", ".join(reason.code for reason in self.reasons) or "no review"
        name = f"{self.file}: " if self.file else ""
        return f"<Prediction {name}{self.top_genre} {self.confidence:.0%} ({others}; {reasons})>"

    def _repr_html_(self) -> str:
        """A small table for notebooks: bars of the genres, then the reasons."""
        members = self.prediction_set.genres if self.prediction_set else ()
        rows = "".join(
            f"<tr><td>{html.escape(score.genre)}{' ●' if score.genre in members else ''}</td>"
            f'<td><div style="background:#2f6f9f;height:1em;width:{score.probability * 200:.0f}px">'
            f"</div></td><td>{score.probability:.1%}</td></tr>"
            for score in self.predictions
        )
        reasons = "".join(f"<li>{html.escape(reason.message)}</li>" for reason in self.reasons)
        caption = html.escape(self.file or "prediction")
        return f"<table><caption>{caption}</caption>{rows}</table><ul>{reasons}</ul>"


CSV_COLUMNS = (
    "duration_s", "format", "top_genre", "confidence", "prediction_set", "family", "needs_review",
    "reasons", "model", "config_digest", "content_blake3",
)  # fmt: skip
"""Columns of a table with one line per track; lists of names are joined by `LIST_SEPARATOR`."""

LIST_SEPARATOR = "; "


def flat_row(body: dict[str, Any]) -> dict[str, Any]:
    """One line of a table, from the JSON object of an answer or an empty one of a failure.

    Args:
        body: as from `Prediction.to_dict`, or with missing or null fields.

    Returns:
        Every one of CSV_COLUMNS; text "true" or "false" for booleans, "" where nothing is known.
    """
    needs_review = body.get("needs_review")
    values = {
        **body,
        "prediction_set": LIST_SEPARATOR.join((body.get("prediction_set") or {}).get("genres", [])),
        "family": (body.get("family") or {}).get("name", ""),
        "needs_review": "" if needs_review is None else str(needs_review).lower(),
        "reasons": LIST_SEPARATOR.join(each["code"] for each in body.get("reasons") or []),
        "model": (body.get("model") or {}).get("digest", ""),
    }
    return {name: "" if (v := values.get(name)) is None else v for name in CSV_COLUMNS}


RESULT_COLUMNS = ("file", *CSV_COLUMNS, "error_code", "error_message")
"""Columns of a table of results, some of which may be errors."""


def result_row(file: str, result: Prediction | AcousticError) -> dict[str, Any]:
    """One line of a table: every one of RESULT_COLUMNS, "" where nothing is known.

    Args:
        file: name of the file.
        result: its prediction, or the error that takes its place.
    """
    if isinstance(result, AcousticError):
        failure = {"error_code": result.code, "error_message": result.message}
        return {"file": file, **flat_row({}), **failure}
    return {"file": file, **flat_row(result.to_dict()), "error_code": "", "error_message": ""}
