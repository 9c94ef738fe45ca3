"""Several rounds of listening to one track as one: what effort `auto` has heard so far.

Shapes: S windows of one track, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from acoustic.types import Descriptors, FeatureSummary, Quality, TrackLogits


def merge_rounds(rounds: Sequence[TrackLogits]) -> TrackLogits:
    """One TrackLogits of all windows, in the order of time.

    Numbers about the sound are means over the windows, levels as powers, bandwidth the widest;
    the tempo is that of the round with the clearest beat.

    Args:
        rounds: of the same track and model, at least one.
    """
    if len(rounds) == 1:
        return rounds[0]
    weights = np.array([len(each.logits) for each in rounds], float)
    weights /= weights.sum()
    segments = [segment for each in rounds for segment in each.features.segments]
    order = sorted(range(len(segments)), key=lambda i: segments[i].start_s)
    last = rounds[-1]
    features = replace(
        last.features,
        segments=tuple(segments[i] for i in order),
        quality=_quality([each.features for each in rounds], weights),
        descriptors=_descriptors([each.features for each in rounds], weights),
        cached=all(each.features.cached for each in rounds),
    )
    distances = [each.distance for each in rounds if each.distance is not None]
    steps = {name for each in rounds for name in each.timings_ms}
    return replace(
        last,
        logits=np.concatenate([each.logits for each in rounds])[order],
        features=features,
        distance=float(np.dot(weights, distances)) if len(distances) == len(rounds) else None,
        timings_ms={n: sum(each.timings_ms.get(n, 0.0) for each in rounds) for n in sorted(steps)},
    )


Weights = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def _quality(rounds: list[FeatureSummary], weights: Weights) -> Quality:
    found = [each.quality for each in rounds]
    powers = [10 ** (each.rms_db / 10) for each in found]
    return Quality(
        rms_db=float(10 * np.log10(np.dot(weights, powers))),
        silence_ratio=float(np.dot(weights, [each.silence_ratio for each in found])),
        clipping_ratio=float(np.dot(weights, [each.clipping_ratio for each in found])),
        bandwidth_hz=max(each.bandwidth_hz for each in found),
        snr_estimate_db=float(np.dot(weights, [each.snr_estimate_db for each in found])),
    )


def _descriptors(rounds: list[FeatureSummary], weights: Weights) -> Descriptors:
    found = [each.descriptors for each in rounds]
    clearest = max(found, key=lambda each: each.tempo_confidence)
    return replace(
        clearest,
        beat_strength=float(np.dot(weights, [each.beat_strength for each in found])),
        low_frequency_ratio=float(np.dot(weights, [each.low_frequency_ratio for each in found])),
        vocal_proxy=float(np.dot(weights, [each.vocal_proxy for each in found])),
    )
