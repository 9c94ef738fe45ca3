"""Labelled clips as whole-length log-mel arrays, read from audio or from a mel pack.

Two sources are read, each a folder with a `manifest.csv`:
- audio: columns file, genre, split (train | valid), group;
- mel pack: `mel_u8.npz` with X (clips, M, T_clip) uint8, and columns index, clip, genre, split,
  artist_group (empty for an unknown artist: the clip is its own group). Its dB are relative to
  the clip's maximum; crops are renormalised later.

The splits come from the manifests, which keep every group (artist or source) on one side;
a group on both sides is refused.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from acoustic.errors import ConfigError, InputError
from acoustic.labels import LabelSet
from acoustic.preprocess.decode import decode_whole
from acoustic.preprocess.mel import MelConfig, MelSpectrogram
from acoustic.preprocess.preprocessor import quantise

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Clip:
    """One labelled clip.

    Attributes:
        log_mel: (M, T_clip) uint8, dB = x / 255 · 80 − 80 relative to the clip's maximum.
        label: index in the label set.
        split: "train" or "valid".
        group: artist or source that must stay on one side of the split.
        source: name of the folder that it came from.
    """

    log_mel: npt.NDArray[np.uint8]
    label: int
    split: str
    group: str
    source: str


def read_clips(folders: Iterable[Path], labels: LabelSet, mel: MelConfig) -> list[Clip]:
    """All clips of the folders that are long enough for one window.

    Args:
        folders: each a mel pack or an audio folder with its manifest.
        labels: the genres; a manifest's genre is looked up by name or alias.
        mel: geometry of the features.

    Raises:
        ConfigError: a folder without a manifest, an unknown genre, or a group in two splits.
    """
    clips: list[Clip] = []
    for folder in folders:
        reader = _read_mel_pack if (folder / "mel_u8.npz").exists() else _read_audio_folder
        found = list(reader(folder, labels, mel))
        logger.info("read clips folder=%s n_clips=%d", folder.name, len(found))
        clips += found
    _refuse_split_groups(clips)
    return clips


def _read_mel_pack(folder: Path, labels: LabelSet, mel: MelConfig) -> Iterator[Clip]:
    with np.load(folder / "mel_u8.npz", allow_pickle=False) as pack:
        spectrograms = pack["X"]
    if spectrograms.shape[1] != mel.n_mels:
        raise ConfigError(f"the mel pack has {spectrograms.shape[1]} bands, not {mel.n_mels}")
    for row in _manifest(folder):
        yield Clip(
            log_mel=np.ascontiguousarray(spectrograms[int(row["index"])]),
            label=_label(labels, row["genre"]),
            split=row["split"],
            group=f"{folder.name}:{row['artist_group'] or row['clip']}",
            source=folder.name,
        )


def _read_audio_folder(folder: Path, labels: LabelSet, mel: MelConfig) -> Iterator[Clip]:
    spectrogram = MelSpectrogram(mel)
    for row in _manifest(folder):
        try:
            waveform = decode_whole((folder / row["file"]).read_bytes(), mel.sample_rate)
        except InputError as error:
            logger.warning("skipped file=%s code=%s: %s", row["file"], error.code, error.message)
            continue
        if waveform.size < mel.window_samples:
            logger.warning("skipped file=%s: shorter than %.2f s", row["file"], mel.window_s)
            continue
        yield Clip(
            log_mel=quantise(spectrogram(waveform), mel.top_db),
            label=_label(labels, row["genre"]),
            split=row["split"],
            group=f"{folder.name}:{row['group']}",
            source=folder.name,
        )


def _manifest(folder: Path) -> list[dict[str, str]]:
    path = folder / "manifest.csv"
    if not path.exists():
        raise ConfigError(f"{folder.name} has no manifest.csv")
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _label(labels: LabelSet, genre: str) -> int:
    try:
        return labels.index(genre)
    except KeyError:
        raise ConfigError(f"the manifest's genre {genre!r} is not among the labels") from None


def _refuse_split_groups(clips: list[Clip]) -> None:
    splits: dict[str, str] = {}
    for clip in clips:
        if splits.setdefault(clip.group, clip.split) != clip.split:
            raise ConfigError(f"group {clip.group!r} is in two splits; accuracy would flatter")
