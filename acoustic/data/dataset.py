"""Labelled log-mel clips for training, calibration and evaluation.

Clips keep the whole recording as uint8 log-mel; windows are cut from it later and renormalised
to their own maximum, as the serving front end does. Recordings that cannot be read are listed with
their error, never dropped silently.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from threadpoolctl import threadpool_limits

from acoustic.data.copies import list_two_genres, with_contents
from acoustic.data.groups import group_key
from acoustic.data.sources import LogMel, Row, list_rows
from acoustic.data.splits import assign_splits, with_known_splits
from acoustic.errors import ConfigError, InputError
from acoustic.geometry import MelConfig
from acoustic.labels import GENRES, Label, LabelSet
from acoustic.resources import usable_cpus

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Clip:
    """One labelled recording as a log-mel spectrogram.

    Attributes:
        log_mel: (M, T_clip) uint8, dB = x / 255 · 80 − 80 relative to the clip's maximum.
        label: index of the genre in the label set, 0 to C − 1.
        split: "train" or "valid".
        group: artist or album, which must stay on one side of the split.
        collection: who put the recording together with others.
        source: name of the data set.
        track: name of the recording, the same in every data set; "" if unknown.
        path: path of the audio file, or None for a stored spectrogram.
    """

    log_mel: LogMel
    label: int
    split: str
    group: str
    source: str
    collection: str = ""
    track: str = ""
    path: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """A recording that cannot be used, with the reason.

    Attributes:
        file: path of the recording within its data set.
        code: error code of the decoder or front end, or "unreadable" for an OSError.
        message: error message.
    """

    file: str
    code: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Dataset:
    """Clips of one or more data sets, with their label set.

    Attributes:
        labels: label set of the C genres.
        clips: usable recordings.
        skipped: recordings that could not be used.
    """

    labels: LabelSet
    clips: list[Clip]
    skipped: list[Skipped]

    def split(self, name: str) -> list[Clip]:
        """Clips of one split, "train" or "valid"."""
        return [clip for clip in self.clips if clip.split == name]

    def counts(self, split: str = "train") -> dict[str, dict[str, int]]:
        """Number of clips in a split: genre → source → count."""
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
    collection: str | None = None,
    trained_groups: Collection[str] = (),
    is_held_out: bool = False,
) -> Dataset:
    """Read all usable recordings of one or more data sets.

    Args:
        sources: folders or manifest files; formats in `acoustic.data.sources`.
        mel: geometry of the log-mel features.
        labels: label set of a checkpoint; None derives it from the data.
        valid_ratio: share of the recordings to hold out where the data states no split, in
            (0, 0.5].
        seed: random seed of the split.
        collection: name of the manifests' column of collections, if another than "collection".
        trained_groups: hashes of groups that a checkpoint was trained on; recordings of them that
            state no split are trained on.
        is_held_out: whether that checkpoint is to be tested: if any of its groups is there, all
            other recordings that state no split are valid.

    Raises:
        ConfigError: data in an unknown format, genres that are not among `labels`, fewer than two
            genres, a genre without a usable recording, or a group or recording in two splits.
    """
    rows = with_contents([row for source in sources for row in list_rows(source, mel, collection)])
    rows = with_known_splits(rows, trained_groups, is_held_out)
    list_two_genres(rows)
    labels = labels or labels_of({row.genre for row in rows})
    _refuse_unknown_genres(rows, labels)
    splits = assign_splits(rows, valid_ratio, seed)
    # a file per core: threads of the matrix products would only wait for each other
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(usable_cpus()) as pool:
        read = list(pool.map(_read, rows))
    clips = [
        Clip(
            log_mel=found,
            label=labels.index(row.genre),
            split=split,
            group=group_key(row),
            source=row.source,
            collection=row.collection,
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
    """Label set of genre names: the guide's genres in its order, then the others by name.

    Raises:
        ConfigError: fewer than two genres, or two that differ only in punctuation.
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
        raise ConfigError(f"genres not among the {len(labels)} labels: {found}")


def _refuse_empty_genres(rows: Sequence[Row], clips: Sequence[Clip], labels: LabelSet) -> None:
    wanted = {labels.index(row.genre) for row in rows}
    empty = sorted(labels.names[i] for i in wanted - {clip.label for clip in clips})
    if empty:
        raise ConfigError(
            f"no usable recording of {', '.join(empty)}: the warnings above name the skipped files"
        )
