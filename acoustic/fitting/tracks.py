"""Logits of labelled clips under a checkpoint: the input of calibration and evaluation.

Shapes: K tracks, S windows of one track, M mel bands, T frames, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from acoustic.classify.checkpoint import Checkpoint
from acoustic.classify.engine import Engine
from acoustic.classify.engine_config import EngineConfig
from acoustic.classify.neighbours import Neighbours
from acoustic.data.dataset import Clip
from acoustic.data.groups import group_hash
from acoustic.data.sources import LogMel
from acoustic.data.unseen import unseen
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
        music: number of windows → (K,) mean log-odds of music over other sounds; {} if unknown.
        labels: (K,) true class indices.
        sources: (K,) names of the data sets.
        groups: (K,) short hashes of the groups.
        collections: (K,) short hashes of the collections.
        unseen: (K,) whether the model was trained on nothing of the track's collection.
        recordings: (K,) names of the recordings; repeats in other data sets have the same name.
    """

    logits: dict[int, list[Logits]]
    labels: npt.NDArray[np.int64]
    sources: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]
    collections: npt.NDArray[np.str_]
    unseen: npt.NDArray[np.bool_]
    recordings: npt.NDArray[np.str_]
    distances: dict[int, npt.NDArray[np.float32]] = field(default_factory=dict)
    music: dict[int, npt.NDArray[np.float32]] = field(default_factory=dict)

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
            collections=self.collections[chosen],
            unseen=self.unseen[chosen],
            recordings=self.recordings[chosen],
            distances={n: each[chosen] for n, each in self.distances.items()},
            music={n: each[chosen] for n, each in self.music.items()},
        )

    def standardised(self, means: tuple[float, ...], deviations: tuple[float, ...]) -> Tracks:
        """The tracks with each genre's logits less its mean, over its deviation; () for as is."""
        if not means:
            return self
        mean, deviation = np.array(means, np.float32), np.array(deviations, np.float32)
        logits = {n: [(x - mean) / deviation for x in each] for n, each in self.logits.items()}
        return replace(self, logits=logits)

    def distance(self, n_windows: int, track: int) -> float | None:
        """Mean distance of one track from the training data, None if unknown."""
        known = self.distances.get(n_windows)
        return None if known is None else float(known[track])

    @property
    def n_collections(self) -> int:
        """Number of different collections."""
        return len(np.unique(self.collections))


def open_engine(checkpoint: Checkpoint, n_threads: int) -> Engine:
    """Open the engine for measurements: FP32 on the CPU, the reference for all other paths."""
    mel = checkpoint.manifest.mel
    return Engine(
        checkpoint.model,
        checkpoint.scaling,
        (mel.n_mels, mel.n_frames),
        EngineConfig(accelerator="cpu", precision="fp32", n_threads=n_threads),
        checkpoint.styles,
    )


def evaluate_clips(
    engine: Engine,
    clips: Sequence[Clip],
    neighbours: Neighbours | None = None,
    trained: Iterable[str] = (),
) -> Tracks:
    """Evaluate clips with every number of windows: logits, and distances if neighbours exist.

    Args:
        engine: engine of the model.
        clips: K clips.
        neighbours: features of training windows, or None.
        trained: hashes of the collections that the model was trained on; see `unseen`.
    """
    answers = {
        n: [evaluate_recording(engine, c.log_mel, n, neighbours) for c in clips]
        for n in WINDOW_COUNTS
    }
    return Tracks(
        logits={n: [each.logits for each in found] for n, found in answers.items()},
        labels=np.array([clip.label for clip in clips], np.int64),
        sources=np.array([clip.source for clip in clips], np.str_),
        groups=np.array([group_hash(clip.group) for clip in clips], np.str_),
        collections=np.array([group_hash(clip.collection) for clip in clips], np.str_),
        unseen=unseen([clip.collection for clip in clips], trained),
        # A clip without a track name counts as a recording of its own.
        recordings=np.array([c.track or f"number {i}" for i, c in enumerate(clips)], np.str_),
        distances={
            n: np.array([each.distance for each in found], np.float32)
            for n, found in answers.items()
            if neighbours is not None
        },
        music={
            n: np.array([each.music for each in found], np.float32)
            for n, found in answers.items()
            if found and found[0].music is not None
        },
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Recording:
    """What the model says about one recording.

    Attributes:
        logits: (S, C) float32.
        distance: mean distance from the training data, None without neighbours.
        music: mean log-odds of music over other sounds, None if the model has none.
    """

    logits: Logits
    distance: float | None
    music: float | None


def evaluate_recording(
    engine: Engine, log_mel: LogMel, n_windows: int, neighbours: Neighbours | None
) -> Recording:
    """Evaluate evenly spread windows of one recording."""
    n_frames = engine.input_shape[1]
    # a recording of one window has one window, however many are asked for
    n_different = n_windows if log_mel.shape[1] > n_frames else 1
    found = engine.outputs(cut_windows(log_mel, n_frames, n_different))
    return Recording(
        logits=np.repeat(found.logits, n_windows // n_different, axis=0),
        distance=None if neighbours is None else float(neighbours.distances(found.features).mean()),
        music=None if found.music is None else float(found.music.mean()),
    )
