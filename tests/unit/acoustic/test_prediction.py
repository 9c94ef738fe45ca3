"""An answer as JSON, as one line of text, as a table for notebooks and as one row of a CSV file."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from acoustic.prediction import (
    CSV_COLUMNS,
    NOT_MUSIC,
    CalibratedModel,
    Family,
    GenreScore,
    Prediction,
    PredictionSet,
    Reason,
    Uncertainty,
    WindowScore,
    flat_row,
)
from tests.support.models import DESCRIPTORS
from tests.support.schema import check_schema
from tests.support.tracks import MODEL, QUALITY

REASON = Reason(code="CLOSE_RIVAL", value=0.1, threshold=0.15, message="Rock < Metal & Punk.")
PREDICTION = Prediction(
    file="a & b.mp3",
    duration_s=180.00049,
    format="MP3",
    segments=((10.12345, 16.2),),
    top_genre="Rock",
    confidence=0.5123456789,
    predictions=(
        GenreScore(genre="Rock", probability=0.5123456789),
        GenreScore(genre="R&B", probability=0.4),
    ),
    prediction_set=PredictionSet(coverage=0.9, genres=("Rock", "R&B")),
    family=Family(name="Rock & Metal", probability=0.9, genres=("Rock", "Metal")),
    uncertainty=Uncertainty(
        entropy=0.5,
        margin=0.9,
        variation_ratio=0.0,
        segment_disagreement=0.0,
        distance=None,
        not_music=None,
    ),
    needs_review=True,
    reasons=(REASON,),
    rules_applied=(),
    quality=QUALITY,
    descriptors=DESCRIPTORS,
    model=CalibratedModel(
        **{field.name: getattr(MODEL, field.name) for field in fields(MODEL)},
        temperature=1.25,
        calibrated=True,
    ),
    config_digest="c" * 12,
    content_blake3="",
    cached=False,
    timings_ms={"mel": 1.23456},
)
PLAIN = replace(PREDICTION, prediction_set=None, family=None, needs_review=False, reasons=())
WINDOW = WindowScore(start_s=10.12345, end_s=16.2, genre="Rock", probability=0.9)


@pytest.mark.parametrize(
    "prediction", [PREDICTION, PLAIN, replace(PREDICTION, timeline=(WINDOW,), duration_s=None)]
)
def test_the_text_is_one_line_of_json_with_the_published_schema(prediction: Prediction) -> None:
    text = prediction.to_json()
    assert "\n" not in text
    body = json.loads(text)
    check_schema(body)
    assert body == prediction.to_dict()
    assert ("timeline" in body) == (prediction.timeline is not None)


def test_numbers_are_rounded_in_the_json_and_kept_in_the_value() -> None:
    body = PREDICTION.to_dict()
    assert (body["duration_s"], body["confidence"]) == (180.0, 0.512346)
    assert (body["segments"], body["timings_ms"]) == ([[10.123, 16.2]], {"mel": 1.235})
    assert PREDICTION.confidence == 0.5123456789


def test_a_number_that_is_not_finite_never_reaches_the_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(PREDICTION, confidence=float("nan")).to_json()


def test_shortcuts_follow_the_fields() -> None:
    assert PREDICTION.genre == "Rock"
    assert PREDICTION.genres() == ("Rock", "R&B")
    assert PREDICTION.genres(1) == ("Rock",)
    assert PREDICTION.is_music
    strange = replace(REASON, code=NOT_MUSIC)
    assert not replace(PREDICTION, reasons=(REASON, strange)).is_music


def test_the_short_form_names_genre_set_and_reasons() -> None:
    assert repr(PREDICTION) == "<Prediction a & b.mp3: Rock 51% (Rock, R&B; CLOSE_RIVAL)>"
    assert repr(replace(PLAIN, file="")) == "<Prediction Rock 51% (no set; no review)>"


def test_the_table_for_notebooks_escapes_every_text() -> None:
    shown = PREDICTION._repr_html_()
    for text in ("a &amp; b.mp3", "R&amp;B ●", "Rock &lt; Metal &amp; Punk."):
        assert text in shown
    assert "●" not in PLAIN._repr_html_()
    assert "<script>" not in replace(PREDICTION, file="<script>")._repr_html_()


def test_a_row_has_every_column_and_no_nested_value() -> None:
    row = flat_row(PREDICTION.to_dict())
    assert tuple(row) == CSV_COLUMNS
    assert all(isinstance(value, str | float) for value in row.values())
    assert (row["prediction_set"], row["family"]) == ("Rock; R&B", "Rock & Metal")
    assert (row["needs_review"], row["reasons"]) == ("true", "CLOSE_RIVAL")
    assert row["model"] == MODEL.digest
    plain = flat_row(PLAIN.to_dict())
    assert (plain["needs_review"], plain["prediction_set"], plain["family"]) == ("false", "", "")


@pytest.mark.parametrize("body", [{}, dict.fromkeys(CSV_COLUMNS)])
def test_the_row_of_a_failure_is_empty(body: dict[str, None]) -> None:
    assert flat_row(body) == dict.fromkeys(CSV_COLUMNS, "")


def test_every_column_is_a_field_of_the_answer() -> None:
    assert set(CSV_COLUMNS) <= {field.name for field in fields(Prediction)}
