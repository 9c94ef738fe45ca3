"""Recordings that are no music: speech, environmental sounds.

One half of a folder is for training (as noise, and as examples of none of the genres), the other
for evaluation. The halves are drawn by a hash of the recording's name, so that two cuts of one
recording are on the same side: those that a manifest says are of one original, or whose names
differ in the letter of their cut only.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from acoustic.errors import ConfigError, InputError
from acoustic.preprocess.mel import MelConfig, MelSpectrogram
from acoustic.preprocess.preprocessor import quantise, tile_frames
from acoustic.training.sources import MANIFEST_FILE, LogMel, read_table, read_waveform

logger = logging.getLogger(__name__)

CUT = re.compile(r"(-[A-Z](-\d+)?)?(\.\w+)?$")
"""The end of a name that tells cuts of one recording apart: "rain-B.ogg", "1-100032-A-0.wav"."""
TAKE = re.compile(r"(-[A-Z]|(?<=[A-Za-z_-])\d{1,3})?(\.\w+)?$")
"""The same for stated originals, where a number tells takes of one place apart: "rain2.wav"."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Outlier:
    """One recording that is no music.

    Attributes:
        waveform: (n,) float32 mono at the model's rate.
        log_mel: (M, T_clip) uint8, at least one window long.
        kind: "speech", "environment" or whatever the data calls it.
    """

    waveform: npt.NDArray[np.float32]
    log_mel: LogMel
    kind: str


def read_outliers(folder: Path, mel: MelConfig, split: str) -> list[Outlier]:
    """One half of a folder of recordings that are no music.

    Args:
        folder: with manifest.csv (file, and where known kind and original), or sub-folders that
            are named by kind.
        mel: geometry of the features.
        split: "train" or "valid".

    Raises:
        ConfigError: no recording of that half can be used.
    """
    spectrogram = MelSpectrogram(mel)
    found: list[Outlier] = []
    for path, kind, recording in _list(folder):
        if side_of(recording) != split:
            continue
        try:
            found.append(_read(path, kind, spectrogram, mel))
        except (InputError, OSError) as error:
            logger.warning("skipped file=%s: %s", path.name, error)
    if not found:
        raise ConfigError(f"{folder} has no usable recording for the {split} half")
    return found


def side_of(recording: str) -> str:
    """The half, "train" or "valid", that a recording belongs to."""
    return ("train", "valid")[hashlib.sha256(recording.encode()).digest()[0] % 2]


def _list(folder: Path) -> list[tuple[Path, str, str]]:
    """File, kind, name of the recording that it is a cut of."""
    manifest = folder / MANIFEST_FILE
    if manifest.exists():
        rows = read_table(manifest, required=("path",))
        return [(folder / r["path"], r["kind"] or "other", _recording(r)) for r in rows]
    if not folder.is_dir():
        raise ConfigError(f"{folder} does not exist")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        (p, p.parent.name if p.parent != folder else "other", CUT.sub("", p.name)) for p in files
    ]


def _recording(columns: dict[str, str]) -> str:
    original = columns["original"]
    return TAKE.sub("", original) if original else CUT.sub("", columns["path"])


def _read(path: Path, kind: str, spectrogram: MelSpectrogram, mel: MelConfig) -> Outlier:
    waveform = read_waveform(path, mel.sample_rate)
    tiled = tile_frames(spectrogram(waveform), mel.n_frames)
    return Outlier(waveform=waveform, log_mel=quantise(tiled, mel.top_db), kind=kind)
