"""Rounds: when another one is asked for, and several rounds as one track."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic.errors import SilentAudioError
from acoustic.labels import Label, LabelSet
from acoustic.postprocess.calibration import Calibration, WindowCalibration
from acoustic.postprocess.postprocess_config import PostprocessConfig
from acoustic.postprocess.postprocessor import Postprocessor
from acoustic.postprocess.rounds import RoundResult, evaluate_in_rounds, merge_rounds
from acoustic.prediction import Prediction
from acoustic.types import TrackLogits
from tests.support.properties import quick
from tests.support.tracks import QUALITY, facts_at, track_logits

CALIBRATION = Calibration(
    windows={1: WindowCalibration(temperature=1.0)},
    checkpoint_digest="",
    dataset="none",
    n_tracks=1,
    date="2026-01-01",
)

TWO = LabelSet([Label(name="Jazz"), Label(name="Rock")])


def process(logits: list[list[float]], margin: float, n_remaining: int) -> RoundResult:
    stage = Postprocessor(TWO, CALIBRATION, 6.0, PostprocessConfig(auto_margin=margin))
    return stage.process_round(track_logits(logits, n_remaining=n_remaining))


def answer(n_windows: int, wants_another: bool) -> RoundResult:
    return replace(process([[1.0, 0.0]] * n_windows, 0.2, 0), wants_another=wants_another)


def run(outcomes: list[RoundResult | SilentAudioError]) -> tuple[list[int], Prediction]:
    """The rounds that were asked for, and the last answer."""
    loop, asked = evaluate_in_rounds(), []
    asked.append(next(loop))
    for outcome in outcomes:
        try:
            asked.append(loop.send(outcome))
        except StopIteration as end:
            return asked, end.value
    raise AssertionError("the loop asked for more rounds than there are")


@pytest.mark.parametrize("n_rounds", [1, 2, 3])
def test_rounds_are_asked_for_until_the_answer_is_clear(n_rounds: int) -> None:
    outcomes = [answer(3 * i, wants_another=i < n_rounds) for i in range(1, n_rounds + 1)]
    asked, found = run([*outcomes])
    assert asked == list(range(n_rounds))
    assert found is outcomes[-1].prediction


def test_a_first_round_that_fails_is_the_error() -> None:
    error = SilentAudioError("silent")
    with pytest.raises(SilentAudioError) as raised:
        run([error])
    assert raised.value is error


def test_a_later_round_that_fails_leaves_the_last_answer() -> None:
    outcomes = [answer(3, True), answer(6, True)]
    asked, found = run([*outcomes, SilentAudioError("silent")])
    assert asked == [0, 1, 2]
    assert found is outcomes[1].prediction


@quick
@given(lead=st.floats(0, 6), margin=st.floats(0, 1), n_remaining=st.integers(0, 7))
def test_another_round_is_wanted_below_the_margin_while_windows_are_left(
    lead: float, margin: float, n_remaining: int
) -> None:
    found = process([[lead, 0.0]], margin, n_remaining)
    first, second = (score.probability for score in found.prediction.predictions)
    assert found.wants_another == (n_remaining > 0 and first - second < margin)


# ---- several rounds as one track


def one_round(starts_s: list[float], **changes: object) -> TrackLogits:
    """Logits of each window name its start, so that a wrong order is found."""
    made = track_logits([[start, -start] for start in starts_s], starts_s)
    return replace(made, **changes)  # type: ignore[arg-type]


@quick
@given(
    order=st.permutations(range(10)),
    cuts=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_any_split_into_rounds_gives_the_windows_in_the_order_of_time(
    order: list[int], cuts: tuple[int, int]
) -> None:
    starts = [10.0 * i for i in order]
    first, second = sorted(cuts)
    parts = [part for part in (starts[:first], starts[first:second], starts[second:]) if part]
    merged = merge_rounds([one_round(part) for part in parts])
    whole = one_round(sorted(starts))
    if len(parts) > 1:
        np.testing.assert_array_equal(merged.logits, whole.logits)
        assert merged.facts.segments == whole.facts.segments


def test_one_round_is_itself() -> None:
    single = one_round([5.0, 1.0])
    assert merge_rounds([single]) is single


def test_levels_are_averaged_as_powers_by_the_number_of_windows() -> None:
    """One window at 0 dB and three at −20 dB: mean power (1 + 3 · 0.01) / 4."""
    loud, quiet = one_round([0.0]), one_round([1.0, 2.0, 3.0])
    rounds = [
        replace(loud, facts=replace(loud.facts, quality=replace(QUALITY, rms_db=0.0))),
        replace(quiet, facts=replace(quiet.facts, quality=replace(QUALITY, rms_db=-20.0))),
    ]
    assert merge_rounds(rounds).facts.quality.rms_db == pytest.approx(10 * np.log10(1.03 / 4))


def test_shares_are_means_and_the_bandwidth_is_the_widest() -> None:
    a, b = one_round([0.0]), one_round([1.0, 2.0, 3.0])
    low = replace(QUALITY, silence_ratio=0.4, bandwidth_hz=3_000.0, snr_estimate_db=8.0)
    merged = merge_rounds([a, replace(b, facts=replace(b.facts, quality=low))]).facts.quality
    assert merged.silence_ratio == pytest.approx(0.3)
    assert merged.bandwidth_hz == QUALITY.bandwidth_hz
    assert merged.snr_estimate_db == pytest.approx((QUALITY.snr_estimate_db + 3 * 8) / 4)


def test_the_tempo_is_that_of_the_clearest_beat() -> None:
    rounds = []
    for i, (bpm, confidence) in enumerate([(90.0, 0.2), (120.0, 0.9), (60.0, 0.5)]):
        each = one_round([float(i)])
        descriptors = replace(
            each.facts.descriptors,
            tempo_bpm=bpm,
            tempo_confidence=confidence,
            vocal_proxy=0.3 * i,
        )
        rounds.append(replace(each, facts=replace(each.facts, descriptors=descriptors)))
    merged = merge_rounds(rounds).facts.descriptors
    assert (merged.tempo_bpm, merged.tempo_confidence) == (120.0, 0.9)
    assert merged.vocal_proxy == pytest.approx(0.3)


def test_a_distance_is_known_where_every_round_has_one() -> None:
    near, far = one_round([0.0], distance=0.1), one_round([1.0, 2.0, 3.0], distance=0.5)
    assert merge_rounds([near, far]).distance == pytest.approx(0.4)
    assert merge_rounds([near, one_round([1.0])]).distance is None


def test_times_add_up_and_the_last_round_says_what_is_left() -> None:
    first = replace(one_round([0.0], timings_ms={"mel": 1.0, "hash": 5.0}), facts=facts_at([0.0]))
    last = one_round([1.0], timings_ms={"mel": 2.0})
    first = replace(first, facts=replace(first.facts, n_remaining=7, cached=True))
    last = replace(last, facts=replace(last.facts, n_remaining=4))
    merged = merge_rounds([first, last])
    assert merged.timings_ms == {"hash": 5.0, "mel": 3.0}
    assert (merged.facts.n_remaining, merged.facts.cached) == (4, False)
