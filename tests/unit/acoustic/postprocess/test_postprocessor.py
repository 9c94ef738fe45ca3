"""Stage 3 (postprocessing): calibration, aggregation, uncertainty, reasons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from acoustic.fitting.scores import adaptive_ece, negative_log_likelihood
from acoustic.fitting.temperature import fit_temperature, track_probabilities
from acoustic.labels import GENRES
from acoustic.postprocess.aggregation import aggregate
from acoustic.postprocess.calibration import (
    Calibration,
    WindowCalibration,
    calibrated_probabilities,
)
from acoustic.postprocess.families import find_family
from acoustic.postprocess.reasons import Evidence, ReviewThresholds, find_reasons
from acoustic.postprocess.uncertainty import (
    energy,
    inverse_margin,
    measure_uncertainty,
    normalised_entropy,
    segment_disagreement,
    training_distance,
    variation_ratio,
)
from acoustic.prediction import GenreScore, Uncertainty
from acoustic.types import AudioInfo, Quality, Segment, TrackFacts
from tests.support.models import DESCRIPTORS

logits_arrays = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 10), st.integers(2, 16)),
    elements=st.floats(-50, 50, width=32),
)
temperatures = st.floats(0.1, 10)
methods = st.sampled_from(["mean_probability", "mean_logit", "vote"])


@given(logits=logits_arrays, temperature=temperatures, method=methods)
def test_a_track_is_a_distribution(
    logits: npt.NDArray[np.float32], temperature: float, method: str
) -> None:
    probabilities = aggregate(logits, temperature, method)  # type: ignore[arg-type]
    assert probabilities.shape == (logits.shape[1],)
    assert probabilities.sum() == pytest.approx(1.0, abs=1e-9)
    assert (probabilities >= 0).all()


@given(logits=logits_arrays, temperature=temperatures, method=methods, seed=st.integers(0, 99))
def test_the_order_of_the_windows_does_not_matter(
    logits: npt.NDArray[np.float32], temperature: float, method: str, seed: int
) -> None:
    shuffled = np.random.default_rng(seed).permutation(logits)
    np.testing.assert_array_equal(
        aggregate(logits, temperature, method),  # type: ignore[arg-type]
        aggregate(shuffled, temperature, method),  # type: ignore[arg-type]
    )


@given(logits=logits_arrays, temperature=temperatures)
def test_temperature_keeps_the_ranking(logits: npt.NDArray[np.float32], temperature: float) -> None:
    probabilities = calibrated_probabilities(logits, temperature)
    best = np.take_along_axis(probabilities, logits.argmax(axis=1)[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(best, probabilities.max(axis=1))


FITTED = WindowCalibration(
    temperature=1.0, scales={"neighbours": (0.2, 0.4), "energy": (-5.0, -3.0)}
)


@given(logits=logits_arrays)
def test_uncertainty_is_within_zero_and_one(logits: npt.NDArray[np.float32]) -> None:
    probabilities = aggregate(logits, 1.0, "mean_probability")
    uncertainty = measure_uncertainty(probabilities, logits, 0.3, FITTED)
    for name in Uncertainty.__slots__:
        assert 0 <= getattr(uncertainty, name) <= 1


def test_extremes_of_uncertainty() -> None:
    certain, uniform = np.array([1.0, 0, 0, 0]), np.full(4, 0.25)
    assert normalised_entropy(certain) == 0
    assert normalised_entropy(uniform) == pytest.approx(1)
    assert inverse_margin(certain) == 0
    assert inverse_margin(uniform) == 1
    assert variation_ratio(np.eye(4, dtype=np.float32)) == 0.75
    assert variation_ratio(np.ones((5, 1), np.float32) * [1, 2, 0]) == 0


def test_disagreement_is_one_for_two_certain_halves_and_none_within_one_genre() -> None:
    jazz, rock = np.array([50.0, 0, 0]), np.array([0, 50.0, 0])
    assert segment_disagreement(np.stack([jazz] * 5 + [rock] * 5), 1.0) == pytest.approx(1)
    assert segment_disagreement(np.stack([jazz] * 10), 1.0) == pytest.approx(0, abs=1e-9)
    assert segment_disagreement(jazz[None], 1.0) == 0
    alternating = segment_disagreement(np.stack([jazz, rock] * 5), 1.0)
    assert 0 < alternating < 0.3  # no point in time separates the two genres


def test_the_distance_is_read_on_the_scale_of_the_calibration_tracks() -> None:
    usual = np.full((1, 4), 5.0 - np.log(4), np.float32)
    assert energy(usual) == pytest.approx(-5)
    assert training_distance(usual, 0.2, FITTED) == pytest.approx(0.5)
    assert training_distance(usual, 0.4, FITTED) == pytest.approx(0.95)
    strange = np.full((1, 4), 3.0 - np.log(4), np.float32)
    assert training_distance(strange, 0.2, FITTED) == pytest.approx(0.95)
    assert training_distance(usual, None, FITTED) == pytest.approx(0.5)
    assert training_distance(usual, 0.2, replace(FITTED, scales={})) is None


def test_votes_are_counted_and_ties_broken_by_probability() -> None:
    logits = np.array([[5, 0, 0], [0, 1, 0]], np.float32)
    assert aggregate(logits, 1.0, "vote").argmax() == 0
    np.testing.assert_allclose(aggregate(logits, 1.0, "vote")[:2], 0.5, atol=1e-5)


def test_an_unknown_aggregation_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown aggregation"):
        aggregate(np.zeros((1, 2), np.float32), 1.0, "median")  # type: ignore[arg-type]


@pytest.mark.parametrize("true_temperature", [0.6, 1.0, 2.5])
def test_the_fit_finds_the_temperature_that_made_the_labels(
    true_temperature: float, rng: np.random.Generator
) -> None:
    logits = [rng.normal(0, 3, (1, 8)).astype(np.float32) for _ in range(4000)]
    labels = np.array(
        [rng.choice(8, p=calibrated_probabilities(x, true_temperature)[0]) for x in logits]
    )
    fitted = fit_temperature(logits, labels)
    assert fitted == pytest.approx(true_temperature, rel=0.1)
    probabilities = track_probabilities(logits, fitted)
    assert adaptive_ece(probabilities, labels) < 0.03
    assert negative_log_likelihood(probabilities, labels) <= negative_log_likelihood(
        track_probabilities(logits, 1.0), labels
    )


def test_ece_of_an_over_confident_model_is_its_gap(rng: np.random.Generator) -> None:
    """90 % confidence and 50 % accuracy: the ECE is 0.4."""
    labels = (rng.random(2000) < 0.5).astype(np.int64)
    probabilities = np.tile([0.9, 0.1], (2000, 1))
    assert adaptive_ece(probabilities, labels) == pytest.approx(0.4, abs=0.03)


def calibration(temperatures: dict[int, float]) -> Calibration:
    return Calibration(
        windows={n: WindowCalibration(temperature=t) for n, t in temperatures.items()},
        checkpoint_digest="d",
        dataset="none",
        n_tracks=1,
        date="2026-01-01",
    )


def test_the_closest_number_of_windows_is_used() -> None:
    table = calibration({1: 1.1, 3: 1.3, 10: 2.0})
    found = [table.at(n).temperature for n in (1, 2, 3, 4, 6, 7, 10, 30)]
    assert found == [1.1, 1.3, 1.3, 1.3, 2.0, 2.0, 2.0, 2.0]
    with pytest.raises(ValueError, match="positive"):
        calibration({1: 0.0})


FINE = TrackFacts(
    segments=(Segment(start_s=0, end_s=6),),
    info=AudioInfo(duration_s=180, sample_rate=44_100, channels=2, format="MP3"),
    quality=Quality(
        rms_db=-14, silence_ratio=0, clipping_ratio=0, bandwidth_hz=11_000, snr_estimate_db=20
    ),
    descriptors=DESCRIPTORS,
    content_sha256="",
    front_end_digest="",
    cached=False,
)
SURE = (GenreScore(genre="Jazz", probability=0.9), GenreScore(genre="Blues", probability=0.1))
AGREED = Uncertainty(
    entropy=0.1, margin=0.1, variation_ratio=0.0, segment_disagreement=0.05, distance=0.5
)
LIMITS = ReviewThresholds(min_confidence=0.5, max_segment_disagreement=0.2, max_distance=0.97)


def codes(
    scores: tuple[GenreScore, ...] = SURE,
    uncertainty: Uncertainty = AGREED,
    facts: TrackFacts = FINE,
    confusion: tuple[str, float] | None = None,
    limits: ReviewThresholds = LIMITS,
) -> list[str]:
    evidence = Evidence(
        scores=scores,
        uncertainty=uncertainty,
        facts=facts,
        confusion=confusion,
        window_s=6.0,
    )
    found = find_reasons(evidence, limits)
    assert all(reason.message.endswith(".") for reason in found)
    return [reason.code for reason in found]


def with_quality(**changes: float) -> TrackFacts:
    return replace(FINE, quality=replace(FINE.quality, **changes))


def test_a_good_answer_has_no_reason() -> None:
    assert codes() == []


def test_each_reason_has_its_number() -> None:
    split = (GenreScore(genre="Jazz", probability=0.52), GenreScore(genre="Pop", probability=0.48))
    unsure = (GenreScore(genre="Jazz", probability=0.4), GenreScore(genre="Pop", probability=0.1))
    short = replace(FINE, info=replace(FINE.info, duration_s=3.0))
    assert codes(unsure) == ["LOW_CONFIDENCE"]
    assert codes(split) == ["CLOSE_RIVAL"]
    assert codes(confusion=("Blues", 0.3)) == ["KNOWN_CONFUSION"]
    disagreeing = replace(AGREED, segment_disagreement=0.7)
    assert codes(uncertainty=disagreeing) == ["SEGMENTS_DISAGREE"]
    assert codes(uncertainty=replace(AGREED, distance=0.99)) == ["NOT_MUSIC"]
    assert codes(facts=short) == ["TOO_SHORT"]
    assert codes(facts=with_quality(silence_ratio=0.8)) == ["MOSTLY_SILENT"]
    assert codes(facts=with_quality(clipping_ratio=0.2)) == ["CLIPPED"]
    assert codes(facts=with_quality(bandwidth_hz=3000)) == ["NARROW_BAND"]
    assert codes(facts=with_quality(snr_estimate_db=4)) == ["NOISY"]


def test_what_is_unknown_or_has_no_limit_is_no_reason() -> None:
    far = replace(AGREED, distance=1.0, segment_disagreement=1.0)
    assert codes(uncertainty=replace(AGREED, distance=None)) == []
    unfitted = ReviewThresholds(min_confidence=0.5)
    assert codes(uncertainty=far, limits=unfitted) == []


def test_an_unknown_duration_is_not_too_short() -> None:
    assert codes(facts=replace(FINE, info=replace(FINE.info, duration_s=None))) == []


def scores_of(**probabilities: float) -> tuple[GenreScore, ...]:
    names = {"HipHop": "Hip-Hop"}
    found = [
        GenreScore(genre=names.get(genre, genre), probability=p)
        for genre, p in probabilities.items()
    ]
    return tuple(sorted(found, key=lambda score: -score.probability))


def test_a_family_is_named_where_its_genres_are_close() -> None:
    close = scores_of(Rock=0.46, Metal=0.4, Jazz=0.14)
    found = find_family(close, GENRES, 0.6, 0.15)
    assert found is not None
    assert (found.name, found.genres) == ("Rock & Metal", ("Rock", "Metal"))
    assert found.probability == pytest.approx(0.86)


@pytest.mark.parametrize(
    "scores",
    [
        {"Rock": 0.8, "Metal": 0.1, "Jazz": 0.1},  # the genre alone is above the threshold
        {"Rock": 0.4, "Metal": 0.1, "Jazz": 0.5},  # the family is below the threshold
        {"Classical": 0.5, "Reggae": 0.5},  # the genres are in no common family
        {"Rock": 0.5, "Jazz": 0.5},  # only one genre of the family is present
    ],
)
def test_no_family_is_named(scores: dict[str, float]) -> None:
    assert find_family(scores_of(**scores), GENRES, 0.6, 0.15) is None


def test_a_family_with_a_close_rival_outside_is_not_sure() -> None:
    assert find_family(scores_of(Jazz=0.4, Blues=0.07, Rock=0.36), GENRES, 0.44, 0.15) is None
    assert find_family(scores_of(Jazz=0.4, Blues=0.2, Rock=0.36), GENRES, 0.44, 0.15) is not None


@pytest.mark.parametrize("bad", [{"min_confidence": 1.5}, {"min_bandwidth_hz": -1.0}])
def test_thresholds_outside_their_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="outside its range"):
        ReviewThresholds(**bad)
