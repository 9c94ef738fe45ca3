"""Facts, logits and labelled tracks made in code, without audio and without a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from acoustic.fitting.tracks import Tracks
from acoustic.types import AudioInfo, ModelInfo, Quality, Segment, TrackFacts, TrackLogits
from tests.support.models import DESCRIPTORS

MODEL = ModelInfo(name="made", version="0", digest="0" * 12, device="cpu", precision="fp32")
QUALITY = Quality(
    rms_db=-14.0,
    silence_ratio=0.0,
    clipping_ratio=0.0,
    bandwidth_hz=11_000.0,
    snr_estimate_db=20.0,
    channel_cancellation=0.0,
)
WINDOW_S = 6.0


def facts_at(starts_s: Sequence[float], n_remaining: int = 0) -> TrackFacts:
    """Facts of a three-minute track whose windows start at these seconds."""
    return TrackFacts(
        segments=tuple(Segment(start_s=s, end_s=s + WINDOW_S) for s in starts_s),
        info=AudioInfo(duration_s=180.0, sample_rate=44_100, channels=2, format="MP3"),
        quality=QUALITY,
        descriptors=DESCRIPTORS,
        content_blake3="",
        front_end_digest="",
        n_remaining=n_remaining,
    )


def track_logits(
    logits: npt.ArrayLike, starts_s: Sequence[float] | None = None, n_remaining: int = 0
) -> TrackLogits:
    """Logits (S, C) with facts; window i starts at 10 · i seconds unless stated."""
    rows = np.asarray(logits, np.float32)
    starts = [10.0 * i for i in range(len(rows))] if starts_s is None else starts_s
    return TrackLogits(logits=rows, facts=facts_at(starts, n_remaining), model=MODEL)


def made_tracks(
    n: int,
    *,
    n_classes: int = 4,
    temperature: float = 1.0,
    seed: int = 0,
    per_group: int = 4,
    per_collection: int = 8,
    is_unseen: bool = False,
) -> Tracks:
    """Tracks whose logits ÷ temperature are calibrated: labels are drawn from their softmax."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, n_classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(n_classes, p=row) for row in probabilities])
    stated = (logits * temperature).astype(np.float32)
    return Tracks(
        logits={s: [np.repeat(row[None], s, axis=0) for row in stated] for s in (1, 3, 10)},
        labels=labels,
        sources=np.full(n, "made"),
        groups=np.array([f"g{i // per_group}" for i in range(n)]),
        collections=np.array([f"c{i // per_collection}" for i in range(n)]),
        unseen=np.full(n, is_unseen),
        recordings=np.array([f"r{i}" for i in range(n)]),
    )
