"""Rounds of windows: how effort `auto` decides to go on, and several rounds as one track.

`evaluate_in_rounds` is the only place that decides. It is a generator, because its callers differ
in how they evaluate a round: the library in a call, the service by awaiting its stages, a batch
job many tracks at a time.

Shapes: S windows of one track, C classes.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from acoustic.errors import InputError, ModelMismatchError
from acoustic.prediction import Prediction
from acoustic.types import Descriptors, Quality, TrackFacts, TrackLogits


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundResult:
    """Answer about a track after some rounds.

    Attributes:
        prediction: answer by all windows evaluated so far.
        wants_another: whether the two best genres are close and windows are left to evaluate.
    """

    prediction: Prediction
    wants_another: bool


def evaluate_in_rounds() -> Generator[int, RoundResult | InputError, Prediction]:
    """Ask for rounds until the answer is clear or no windows are left.

    Yields:
        The number of the round to evaluate next, from 0. The caller sends back the answer by
        that round and all before it, or the InputError that the round raised.

    Returns:
        The last answer. A later round that fails (the rest of the track is silent or damaged)
        leaves the answer of the rounds before it.

    Raises:
        InputError: the first round failed.
    """
    prediction: Prediction | None = None
    number = 0
    while True:
        outcome = yield number
        if isinstance(outcome, InputError):
            if prediction is None:
                raise outcome
            return prediction
        prediction = outcome.prediction
        if not outcome.wants_another:
            return prediction
        number += 1


def merge_rounds(rounds: Sequence[TrackLogits]) -> TrackLogits:
    """One TrackLogits of all windows, in the order of time.

    Numbers about the sound are means over the windows, levels as powers; bandwidth and
    cancellation are the largest; the tempo is that of the round with the clearest beat.

    Args:
        rounds: at least one, of the same track.

    Raises:
        ModelMismatchError: they are of different models.
    """
    digests = sorted({each.model.digest for each in rounds})
    if len(digests) > 1:
        raise ModelMismatchError(f"the rounds are of the models {' and '.join(digests)}")
    if len(rounds) == 1:
        return rounds[0]
    weights = np.array([len(each.logits) for each in rounds], float)
    weights /= weights.sum()
    segments = [segment for each in rounds for segment in each.facts.segments]
    order = sorted(range(len(segments)), key=lambda i: segments[i].start_s)
    last = rounds[-1]
    facts = replace(
        last.facts,
        segments=tuple(segments[i] for i in order),
        quality=_quality([each.facts for each in rounds], weights),
        descriptors=_descriptors([each.facts for each in rounds], weights),
        cached=all(each.facts.cached for each in rounds),
    )
    steps = {name for each in rounds for name in each.timings_ms}
    return replace(
        last,
        logits=np.concatenate([each.logits for each in rounds])[order],
        facts=facts,
        distance=_mean([each.distance for each in rounds], weights),
        music=_mean([each.music for each in rounds], weights),
        styles=_mean_styles([each.styles for each in rounds], weights),
        timings_ms={n: sum(each.timings_ms.get(n, 0.0) for each in rounds) for n in sorted(steps)},
    )


Scores = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
Weights = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def _mean(values: list[float | None], weights: Weights) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.dot(weights, known)) if len(known) == len(values) else None


def _mean_styles(rounds: list[Scores | None], weights: Weights) -> Scores | None:
    known = [scores for scores in rounds if scores is not None]
    if not known:
        return None
    return np.average(known, axis=0, weights=weights).astype(np.float32)


def _quality(rounds: list[TrackFacts], weights: Weights) -> Quality:
    found = [each.quality for each in rounds]
    # decibels are averaged as powers: the mean level is that of all windows joined
    powers = [10 ** (each.rms_db / 10) for each in found]
    return Quality(
        rms_db=float(10 * np.log10(np.dot(weights, powers))),
        silence_ratio=float(np.dot(weights, [each.silence_ratio for each in found])),
        clipping_ratio=float(np.dot(weights, [each.clipping_ratio for each in found])),
        bandwidth_hz=max(each.bandwidth_hz for each in found),
        snr_estimate_db=float(np.dot(weights, [each.snr_estimate_db for each in found])),
        channel_cancellation=max(each.channel_cancellation for each in found),
    )


def _descriptors(rounds: list[TrackFacts], weights: Weights) -> Descriptors:
    found = [each.descriptors for each in rounds]
    clearest = max(found, key=lambda each: each.tempo_confidence)
    return replace(
        clearest,
        beat_strength=float(np.dot(weights, [each.beat_strength for each in found])),
        low_frequency_ratio=float(np.dot(weights, [each.low_frequency_ratio for each in found])),
        vocal_proxy=float(np.dot(weights, [each.vocal_proxy for each in found])),
    )
