"""Logits of labelled clips under a checkpoint: the input of calibration and evaluation.

Shapes: K tracks, S windows of one track, M mel bands, T frames, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from acoustic.classify.checkpoint import Checkpoint
from acoustic.classify.engine import Engine
from acoustic.classify.engine_config import EngineConfig
from acoustic.classify.neighbours import Neighbours
from acoustic.data.dataset import Clip
from acoustic.data.groups import group_hash
from acoustic.data.sources import LogMel
from acoustic.data.windows import cut_windows
from acoustic.postprocess.calibration import Logits
from acoustic.preprocess.segments import WINDOWS_BY_EFFORT

WINDOW_COUNTS = tuple(sorted(set(WINDOWS_BY_EFFORT.values())))
"""Numbers of windows that the efforts fast, balanced and thorough evaluate."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tracks:
    """Logits and true genres of K tracks.

    Attributes:
        logits: number of windows → K arrays (S, C).
        distances: number of windows → (K,) mean distance from the training data; {} if unknown.
        labels: (K,) true class indices.
        sources: (K,) names of the data sets.
        groups: (K,) short hashes of the groups.
        recordings: (K,) names of the recordings; repeats in other data sets have the same name.
    """

    logits: dict[int, list[Logits]]
    labels: npt.NDArray[np.int64]
    sources: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]
    recordings: npt.NDArray[np.str_]
    distances: dict[int, npt.NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: npt.NDArray[np.bool_]) -> Tracks:
        """The tracks where `chosen` (K,) is true."""
        indices = np.flatnonzero(chosen)
        return Tracks(
            logits={n: [each[i] for i in indices] for n, each in self.logits.items()},
            labels=self.labels[chosen],
            sources=self.sources[chosen],
            groups=self.groups[chosen],
            recordings=self.recordings[chosen],
            distances={n: each[chosen] for n, each in self.distances.items()},
        )

    def distance(self, n_windows: int, track: int) -> float | None:
        """Mean distance of one track from the training data, None if unknown."""
        known = self.distances.get(n_windows)
        return None if known is None else float(known[track])


def open_engine(checkpoint: Checkpoint, n_threads: int) -> Engine:
    """Open the engine for measurements: FP32 on the CPU, the reference for all other paths."""
    mel = checkpoint.manifest.mel
    return Engine(
        checkpoint.model,
        checkpoint.scaling,
        (mel.n_mels, mel.n_frames),
        EngineConfig(accelerator="cpu", precision="fp32", n_threads=n_threads),
    )


def evaluate_clips(
    engine: Engine, clips: Sequence[Clip], neighbours: Neighbours | None = None
) -> Tracks:
    """Evaluate clips with every number of windows: logits, and distances if neighbours exist."""
    answers = {
        n: [evaluate_recording(engine, c.log_mel, n, neighbours) for c in clips]
        for n in WINDOW_COUNTS
    }
    return Tracks(
        logits={n: [logits for logits, _ in each] for n, each in answers.items()},
        labels=np.array([clip.label for clip in clips], np.int64),
        sources=np.array([clip.source for clip in clips], np.str_),
        groups=np.array([group_hash(clip.group) for clip in clips], np.str_),
        # A clip without a track name counts as a recording of its own.
        recordings=np.array([c.track or f"number {i}" for i, c in enumerate(clips)], np.str_),
        distances={
            n: np.array([distance for _, distance in each], np.float32)
            for n, each in answers.items()
            if neighbours is not None
        },
    )


def evaluate_recording(
    engine: Engine, log_mel: LogMel, n_windows: int, neighbours: Neighbours | None
) -> tuple[Logits, float | None]:
    """Evaluate one recording: logits (S, C), and its mean distance if neighbours exist."""
    windows = cut_windows(log_mel, engine.input_shape[1], n_windows)
    logits, features = engine.logits_and_features(windows)
    return logits, None if neighbours is None else float(neighbours.distances(features).mean())
