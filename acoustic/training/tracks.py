"""What a checkpoint says about labelled clips: the raw material of calibration and evaluation.

Shapes: K tracks, S windows of one track, M mel bands, T frames, C classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from acoustic.classify.checkpoint import Checkpoint
from acoustic.classify.config import EngineConfig
from acoustic.classify.engine import Engine
from acoustic.classify.neighbours import Neighbours
from acoustic.errors import ConfigError
from acoustic.manifest import FACTS_FILE, load_json
from acoustic.postprocess.calibration import Logits
from acoustic.training.dataset import Clip
from acoustic.training.sources import LogMel
from acoustic.training.validate import cut_windows

WINDOW_COUNTS = (1, 3, 10)
"""The numbers of windows of the service's efforts."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tracks:
    """Logits and truth of K tracks.

    Attributes:
        logits: number of windows → K arrays (S, C).
        distances: number of windows → (K,) mean distance from the training data; {} if unknown.
        labels: (K,) class indices.
        sources: (K,) names of the data sets.
        groups: (K,) short hashes of the groups.
        recordings: (K,) names; data sets that have the same recording have the same name.
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
        """Of one track, None if unknown."""
        known = self.distances.get(n_windows)
        return None if known is None else float(known[track])


def open_engine(checkpoint: Checkpoint, n_threads: int) -> Engine:
    """The engine that measurements use: FP32 on the CPU, the reference of every other path."""
    mel = checkpoint.manifest.mel
    return Engine(
        checkpoint.model,
        checkpoint.scaling,
        (mel.n_mels, mel.n_frames),
        EngineConfig(accelerator="cpu", precision="fp32", n_threads=n_threads),
    )


def hear(engine: Engine, clips: Sequence[Clip], neighbours: Neighbours | None = None) -> Tracks:
    """Logits of clips for every number of windows, and distances where there are neighbours."""
    answers = {n: [listen(engine, c.log_mel, n, neighbours) for c in clips] for n in WINDOW_COUNTS}
    return Tracks(
        logits={n: [logits for logits, _ in each] for n, each in answers.items()},
        labels=np.array([clip.label for clip in clips], np.int64),
        sources=np.array([clip.source for clip in clips], np.str_),
        groups=np.array([group_hash(clip.group) for clip in clips], np.str_),
        recordings=np.array([c.track or f"number {i}" for i, c in enumerate(clips)], np.str_),
        distances={
            n: np.array([distance for _, distance in each], np.float32)
            for n, each in answers.items()
            if neighbours is not None
        },
    )


def listen(
    engine: Engine, log_mel: LogMel, n_windows: int, neighbours: Neighbours | None
) -> tuple[Logits, float | None]:
    """Logits (S, C) of one recording, and its distance where there are neighbours."""
    windows = cut_windows(log_mel, engine.input_shape[1], n_windows)
    logits, features = engine.answers(windows)
    return logits, None if neighbours is None else float(neighbours.distances(features).mean())


def without_repeats(clips: Iterable[Clip]) -> list[Clip]:
    """The clips without recordings that an earlier data set has under the same track name."""
    seen: dict[str, str] = {}
    return [
        clip
        for clip in clips
        if not clip.track or seen.setdefault(clip.track, clip.source) == clip.source
    ]


def refuse_trained_on(folder: Path, clips: Sequence[Clip]) -> None:
    """Check that no clip is of a group that the checkpoint was trained on.

    Without a split column the split is drawn, and other data, another ratio or another seed draw
    it differently.

    Args:
        folder: the checkpoint; nothing is checked where it does not say what it was trained on.
        clips: to calibrate or evaluate on.

    Raises:
        ConfigError: there are such clips.
    """
    trained = set(trained_groups(folder))
    met = [clip for clip in clips if group_hash(clip.group) in trained]
    if met:
        raise ConfigError(
            f"{len(met)} of {len(clips)} valid recordings are of groups that the model was trained "
            f"on, such as {met[0].group!r}: give the data, --valid-ratio and --seed of the training"
        )


def trained_groups(folder: Path) -> tuple[str, ...]:
    """Hashes of the groups that a checkpoint was trained on, as far as it says."""
    if not (folder / FACTS_FILE).exists():
        return ()
    return tuple(load_json(folder, FACTS_FILE).get("train_groups", ()))


def group_hash(group: str) -> str:
    """8 hex digits that stand for a group without naming it."""
    return hashlib.sha256(group.encode()).hexdigest()[:8]
