"""Labelled log-mel clips for training, calibration and evaluation.

Clips keep the whole recording as uint8 log-mel; windows are cut from it later and renormalised
to their own maximum, as the serving front end does. What cannot be read is listed, never dropped
in silence.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from acoustic.errors import ConfigError, InputError
from acoustic.labels import GENRES, Label, LabelSet
from acoustic.preprocess.mel import MelConfig
from acoustic.training.sources import LogMel, Row, list_rows
from acoustic.training.splits import assign_splits, group_key

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Clip:
    """One labelled recording.

    Attributes:
        log_mel: (M, T_clip) uint8, dB = x / 255 · 80 − 80 relative to the clip's maximum.
        label: index in the label set.
        split: "train" or "valid".
        group: artist or source that must stay on one side of the split.
        source: name of the data set.
        track: name of the recording, the same in every data set; "" if not known.
        path: of the audio, or None where there are spectrograms only.
    """

    log_mel: LogMel
    label: int
    split: str
    group: str
    source: str
    track: str = ""
    path: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """A recording that cannot be used, and why."""

    file: str
    code: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Dataset:
    """What was read.

    Attributes:
        labels: the C genres.
        clips: usable recordings.
        skipped: the others.
    """

    labels: LabelSet
    clips: list[Clip]
    skipped: list[Skipped]

    def split(self, name: str) -> list[Clip]:
        """Clips of one side."""
        return [clip for clip in self.clips if clip.split == name]

    def counts(self, split: str = "train") -> dict[str, dict[str, int]]:
        """Genre → source → number of clips."""
        counted = Counter((c.label, c.source) for c in self.clips if c.split == split)
        counts: dict[str, dict[str, int]] = {name: {} for name in self.labels.names}
        for (label, source), n in sorted(counted.items()):
            counts[self.labels.names[label]][source] = n
        return counts


def read_dataset(
    sources: Iterable[Path],
    mel: MelConfig,
    *,
    labels: LabelSet | None = None,
    valid_ratio: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """All usable recordings of some data sets.

    Args:
        sources: folders or manifests; see `sources`.
        mel: geometry of the features.
        labels: the genres of a checkpoint; None takes those of the data.
        valid_ratio: share to hold out where the data states no split.
        seed: of that draw.

    Raises:
        ConfigError: data of no known form, genres that are not among `labels`, fewer than two
            genres, a genre without a usable recording, or a group in two splits.
    """
    rows = [row for source in sources for row in list_rows(source, mel)]
    labels = labels or labels_of({row.genre for row in rows})
    _refuse_unknown_genres(rows, labels)
    splits = assign_splits(rows, valid_ratio, seed)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        read = list(pool.map(_read, rows))
    clips = [
        Clip(
            log_mel=found,
            label=labels.index(row.genre),
            split=split,
            group=group_key(row),
            source=row.source,
            track=row.track,
            path=row.path,
        )
        for row, split, found in zip(rows, splits, read, strict=True)
        if not isinstance(found, Skipped)
    ]
    skipped = [found for found in read if isinstance(found, Skipped)]
    for each in skipped:
        logger.warning("skipped file=%s code=%s: %s", each.file, each.code, each.message)
    _refuse_empty_genres(rows, clips, labels)
    logger.info("read n_clips=%d n_skipped=%d", len(clips), len(skipped))
    return Dataset(labels=labels, clips=clips, skipped=skipped)


def labels_of(genres: set[str]) -> LabelSet:
    """A label set of the genres' names: the guide's genres in its order, then others by name.

    Raises:
        ConfigError: fewer than two, or two that differ in punctuation only.
    """
    known: set[int] = set()
    other: list[Label] = []
    for genre in sorted(genres):
        try:
            known.add(GENRES.index(genre))
        except KeyError:
            other.append(Label(name=genre))
    try:
        return LabelSet([GENRES.labels[i] for i in sorted(known)] + other)
    except ValueError as error:
        raise ConfigError(f"the data's genres cannot be used: {error}") from error


def _read(row: Row) -> LogMel | Skipped:
    try:
        return row.read()
    except InputError as error:
        return Skipped(file=row.file, code=error.code, message=error.message)
    except OSError as error:
        return Skipped(file=row.file, code="unreadable", message=error.strerror or str(error))


def _refuse_unknown_genres(rows: Sequence[Row], labels: LabelSet) -> None:
    unknown: Counter[str] = Counter()
    for row in rows:
        try:
            labels.index(row.genre)
        except KeyError:
            unknown[row.genre] += 1
    if unknown:
        found = ", ".join(f"{name!r} ({n} files)" for name, n in sorted(unknown.items()))
        raise ConfigError(f"not among the {len(labels)} labels: {found}")


def _refuse_empty_genres(rows: Sequence[Row], clips: Sequence[Clip], labels: LabelSet) -> None:
    wanted = {labels.index(row.genre) for row in rows}
    empty = sorted(labels.names[i] for i in wanted - {clip.label for clip in clips})
    if empty:
        raise ConfigError(f"no usable recording of {', '.join(empty)}")
