"""Review reasons: numbers past their thresholds, in the order of the table; the guide's rule."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic.postprocess.reasons import Evidence, ReviewThresholds, find_reasons
from acoustic.prediction import GenreScore, Reason, Uncertainty
from tests.support.properties import quick
from tests.support.tracks import QUALITY, WINDOW_S, facts_at

ORDER = (
    "GUIDE_UNCERTAIN", "LOW_CONFIDENCE", "CLOSE_RIVAL", "KNOWN_CONFUSION", "SEGMENTS_DISAGREE",
    "NOT_MUSIC", "TOO_SHORT", "MOSTLY_SILENT", "CLIPPED", "NARROW_BAND", "NOISY",
)  # fmt: skip
BELOW = {"LOW_CONFIDENCE", "CLOSE_RIVAL", "TOO_SHORT", "NARROW_BAND", "NOISY"}
BY_CONFIDENCE = {"LOW_CONFIDENCE", "CLOSE_RIVAL", "KNOWN_CONFUSION"}
UNIT = st.floats(0, 1)
FINE = ReviewThresholds(min_confidence=0.5, max_segment_disagreement=0.2, max_distance=0.97)


def evidence(
    best: float = 0.9,
    rival: float = 0.05,
    entropy: float = 0.1,
    disagreement: float = 0.0,
    distance: float | None = 0.5,
    confusion: float = 0.0,
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
        ),
        facts=replace(facts, quality=quality),
        confusion=("Blues", confusion),
        window_s=WINDOW_S,
    )


any_evidence = st.builds(
    evidence,
    best=st.floats(0.5, 1),
    rival=st.floats(0, 0.5),
    entropy=UNIT,
    disagreement=UNIT,
    distance=st.none() | UNIT,
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
    equal = evidence(best=0.5, rival=0.25, disagreement=0.2, distance=0.97, snr_db=6.5, silence=0.5)
    limits = replace(FINE, min_margin=0.25)
    assert find_reasons(equal, limits) == ()
    past = evidence(0.49, 0.25, disagreement=0.21, distance=0.98, snr_db=6.4, silence=0.6)
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
