"""Review reasons: numbers past their thresholds, in the order of the table; the guide's rule."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic.postprocess.reasons import Evidence, ReviewThresholds, find_reasons
from acoustic.prediction import GenreScore, Reason, Uncertainty
from acoustic.types import AudioInfo, Quality, Segment, TrackFacts
from tests.support.models import DESCRIPTORS
from tests.support.properties import quick
from tests.support.tracks import QUALITY, WINDOW_S, facts_at

ORDER = (
    "GUIDE_UNCERTAIN", "LOW_CONFIDENCE", "CLOSE_RIVAL", "KNOWN_CONFUSION", "SEGMENTS_DISAGREE",
    "NOT_MUSIC", "UNFAMILIAR", "TOO_SHORT", "MOSTLY_SILENT", "CLIPPED", "NARROW_BAND", "NOISY",
)  # fmt: skip
BELOW = {"LOW_CONFIDENCE", "CLOSE_RIVAL", "TOO_SHORT", "NARROW_BAND", "NOISY"}
BY_CONFIDENCE = {"LOW_CONFIDENCE", "CLOSE_RIVAL", "KNOWN_CONFUSION"}
UNIT = st.floats(0, 1)
FINE = ReviewThresholds(
    min_confidence=0.5, max_segment_disagreement=0.2, max_distance=0.97, max_not_music=0.98
)


def evidence(
    best: float = 0.9,
    rival: float = 0.05,
    entropy: float = 0.1,
    disagreement: float = 0.0,
    distance: float | None = 0.5,
    confusion: float = 0.0,
    not_music: float | None = None,
    silence: float = 0.0,
    snr_db: float = 20.0,
) -> Evidence:
    facts = facts_at([0.0])
    quality = replace(QUALITY, silence_ratio=silence, snr_estimate_db=snr_db)
    return Evidence(
        scores=(
            GenreScore(genre="Jazz", probability=best),
            GenreScore(genre="Blues", probability=rival),
        ),
        uncertainty=Uncertainty(
            entropy=entropy,
            margin=1 - best + rival,
            variation_ratio=0.0,
            segment_disagreement=disagreement,
            distance=distance,
            not_music=not_music,
        ),
        facts=replace(facts, quality=quality),
        confusion=("Blues", confusion),
        shortest_s=WINDOW_S,
    )


any_evidence = st.builds(
    evidence,
    best=st.floats(0.5, 1),
    rival=st.floats(0, 0.5),
    entropy=UNIT,
    disagreement=UNIT,
    distance=st.none() | UNIT,
    not_music=st.none() | UNIT,
    confusion=UNIT,
    silence=UNIT,
    snr_db=st.floats(0, 40),
)
any_limits = st.builds(
    ReviewThresholds,
    min_confidence=st.none() | UNIT,
    min_margin=UNIT,
    max_confusion=UNIT,
    max_segment_disagreement=st.none() | UNIT,
    max_distance=st.none() | UNIT,
    max_not_music=st.none() | UNIT,
    max_silence_ratio=UNIT,
    min_snr_db=st.floats(0, 40),
    guide=st.none() | UNIT,
)


def codes(reasons: tuple[Reason, ...]) -> list[str]:
    return [reason.code for reason in reasons]


@quick
@given(evidence=any_evidence, limits=any_limits)
def test_every_reason_is_a_number_past_its_threshold_in_the_order_of_the_table(
    evidence: Evidence, limits: ReviewThresholds
) -> None:
    found = find_reasons(evidence, limits)
    assert codes(found) == sorted(codes(found), key=ORDER.index)
    for reason in found:
        if reason.code in BELOW:
            assert reason.value < reason.threshold
        else:
            assert reason.value > reason.threshold


@quick
@given(evidence=any_evidence, limits=any_limits, guide=UNIT)
def test_the_guides_rule_replaces_the_reasons_about_the_confidence_and_no_other(
    evidence: Evidence, limits: ReviewThresholds, guide: float
) -> None:
    own = set(codes(find_reasons(evidence, replace(limits, guide=None))))
    by_guide = set(codes(find_reasons(evidence, replace(limits, guide=guide))))
    assert "GUIDE_UNCERTAIN" not in own
    assert not by_guide & BY_CONFIDENCE
    assert by_guide - {"GUIDE_UNCERTAIN"} == own - BY_CONFIDENCE
    assert ("GUIDE_UNCERTAIN" in by_guide) == (evidence.uncertainty.entropy > guide)


def test_the_guides_rule_names_the_entropy_and_the_genre() -> None:
    (reason,) = find_reasons(evidence(best=0.3, entropy=0.8), replace(FINE, guide=0.7))
    assert (reason.code, reason.value, reason.threshold) == ("GUIDE_UNCERTAIN", 0.8, 0.7)
    assert "Jazz" in reason.message


@quick
@given(evidence=any_evidence, limits=any_limits)
def test_a_stricter_threshold_takes_no_reason_away(
    evidence: Evidence, limits: ReviewThresholds
) -> None:
    stricter = replace(
        limits,
        min_margin=min(1.0, limits.min_margin + 0.1),
        max_silence_ratio=limits.max_silence_ratio / 2,
        min_snr_db=limits.min_snr_db + 3,
    )
    assert set(codes(find_reasons(evidence, limits))) <= set(
        codes(find_reasons(evidence, stricter))
    )


def test_a_value_equal_to_its_threshold_is_not_a_reason() -> None:
    equal = evidence(best=0.5, rival=0.25, disagreement=0.2, distance=0.97, snr_db=7.7, silence=0.5)
    limits = replace(FINE, min_margin=0.25)
    assert find_reasons(equal, limits) == ()
    past = evidence(0.49, 0.25, disagreement=0.21, distance=0.98, snr_db=7.6, silence=0.6)
    assert codes(find_reasons(past, limits)) == [
        "LOW_CONFIDENCE", "CLOSE_RIVAL", "SEGMENTS_DISAGREE", "NOT_MUSIC", "MOSTLY_SILENT", "NOISY",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ReviewThresholds.__slots__)
def test_a_threshold_below_zero_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is -0.1, outside its range"):
        ReviewThresholds(**{name: -0.1})


def test_hertz_and_decibels_have_no_upper_limit() -> None:
    ReviewThresholds(min_bandwidth_hz=20_000.0, min_snr_db=60.0)
    with pytest.raises(ValueError, match=r"guide is 1\.1"):
        ReviewThresholds(guide=1.1)


GOOD = TrackFacts(
    segments=(Segment(start_s=0, end_s=6),),
    info=AudioInfo(duration_s=180, sample_rate=44_100, channels=2, format="MP3"),
    quality=Quality(
        rms_db=-14,
        silence_ratio=0,
        clipping_ratio=0,
        bandwidth_hz=11_000,
        snr_estimate_db=20,
        channel_cancellation=0,
    ),
    descriptors=DESCRIPTORS,
    content_blake3="",
    front_end_digest="",
    cached=False,
)
SURE = (GenreScore(genre="Jazz", probability=0.9), GenreScore(genre="Blues", probability=0.1))
AGREED = Uncertainty(
    entropy=0.1,
    margin=0.1,
    variation_ratio=0.0,
    segment_disagreement=0.05,
    distance=0.5,
    not_music=None,
)


def codes_of(
    scores: tuple[GenreScore, ...] = SURE,
    uncertainty: Uncertainty = AGREED,
    facts: TrackFacts = GOOD,
    confusion: tuple[str, float] | None = None,
    limits: ReviewThresholds = FINE,
) -> list[str]:
    evidence = Evidence(
        scores=scores,
        uncertainty=uncertainty,
        facts=facts,
        confusion=confusion,
        shortest_s=6.0,
    )
    found = find_reasons(evidence, limits)
    assert all(reason.message.endswith(".") for reason in found)
    return [reason.code for reason in found]


def with_quality(**changes: float) -> TrackFacts:
    return replace(GOOD, quality=replace(GOOD.quality, **changes))


def test_a_good_answer_has_no_reason() -> None:
    assert codes_of() == []


def test_each_reason_has_its_number() -> None:
    split = (GenreScore(genre="Jazz", probability=0.52), GenreScore(genre="Pop", probability=0.48))
    unsure = (GenreScore(genre="Jazz", probability=0.4), GenreScore(genre="Pop", probability=0.1))
    short = replace(GOOD, info=replace(GOOD.info, duration_s=3.0))
    assert codes_of(unsure) == ["LOW_CONFIDENCE"]
    assert codes_of(split) == ["CLOSE_RIVAL"]
    assert codes_of(confusion=("Blues", 0.3)) == ["KNOWN_CONFUSION"]
    disagreeing = replace(AGREED, segment_disagreement=0.7)
    assert codes_of(uncertainty=disagreeing) == ["SEGMENTS_DISAGREE"]
    assert codes_of(uncertainty=replace(AGREED, distance=0.99)) == ["NOT_MUSIC"]
    assert codes_of(facts=short) == ["TOO_SHORT"]
    assert codes_of(facts=with_quality(silence_ratio=0.8)) == ["MOSTLY_SILENT"]
    assert codes_of(facts=with_quality(clipping_ratio=0.2)) == ["CLIPPED"]
    assert codes_of(facts=with_quality(bandwidth_hz=3000)) == ["NARROW_BAND"]
    assert codes_of(facts=with_quality(snr_estimate_db=4)) == ["NOISY"]


def test_other_sounds_and_unfamiliar_music_are_told_apart_where_the_model_can() -> None:
    music = replace(AGREED, not_music=0.5)
    assert codes_of(uncertainty=replace(music, distance=0.99)) == ["UNFAMILIAR"]
    assert codes_of(uncertainty=replace(music, not_music=0.99)) == ["NOT_MUSIC"]
    # far from the music of the training because it is none: one reason, not two
    assert codes_of(uncertainty=replace(music, distance=0.99, not_music=0.99)) == ["NOT_MUSIC"]
    assert codes_of(uncertainty=replace(music, distance=0.97, not_music=0.98)) == []


def test_what_is_unknown_or_has_no_limit_is_no_reason() -> None:
    far = replace(AGREED, distance=1.0, segment_disagreement=1.0)
    assert codes_of(uncertainty=replace(AGREED, distance=None)) == []
    unfitted = ReviewThresholds(min_confidence=0.5)
    assert codes_of(uncertainty=far, limits=unfitted) == []


def test_an_unknown_duration_is_not_too_short() -> None:
    assert codes_of(facts=replace(GOOD, info=replace(GOOD.info, duration_s=None))) == []


@pytest.mark.parametrize("bad", [{"min_confidence": 1.5}, {"min_bandwidth_hz": -1.0}])
def test_thresholds_outside_their_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="outside its range"):
        ReviewThresholds(**bad)
