"""Non-music recordings (speech, environmental sounds) for training and evaluation.

One half of a folder is for training (as noise, and as examples of none of the genres), the other
for evaluation. The halves are drawn by a hash of the recording's name, so that all cuts of one
recording are in the same half. Cuts belong together if a manifest states the same original, or if
their names differ only in the letter of the cut.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from acoustic.data.manifest import read_table
from acoustic.data.sources import MANIFEST_FILE, LogMel, read_waveform
from acoustic.errors import ConfigError, InputError
from acoustic.geometry import MelConfig
from acoustic.preprocess.mel import MelSpectrogram, model_values

logger = logging.getLogger(__name__)

CUT = re.compile(r"(-[A-Z](-\d+)?)?(\.\w+)?$")
"""Suffix that distinguishes cuts of one recording: "rain-B.ogg", "1-100032-A-0.wav"."""
TAKE = re.compile(r"(-[A-Z]|(?<=[A-Za-z_-])\d{1,3})?(\.\w+)?$")
"""Suffix of stated originals, where a number distinguishes takes of one place: "rain2.wav"."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Outlier:
    """One non-music recording.

    Attributes:
        waveform: (n,) float32 mono at the model's sample rate.
        log_mel: (M, T_clip) uint8, at least one window long.
        kind: kind of sound as the data names it, e.g. "speech" or "environment".
    """

    waveform: npt.NDArray[np.float32]
    log_mel: LogMel
    kind: str


def read_outliers(folder: Path, mel: MelConfig, split: str) -> list[Outlier]:
    """Read one half of a folder of non-music recordings.

    Args:
        folder: folder with manifest.csv (column file, optionally kind and original), or with one
            sub-folder per kind.
        mel: geometry of the log-mel features.
        split: half to read, "train" or "valid".

    Raises:
        ConfigError: the folder does not exist, or no recording of that half can be used.
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
    # By a hash, not a draw: files that are added later do not move the others.
    return ("train", "valid")[hashlib.sha256(recording.encode()).digest()[0] % 2]


def _list(folder: Path) -> list[tuple[Path, str, str]]:
    """(file, kind, name of the recording that the file is a cut of) of every file."""
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
    log_mel = model_values(spectrogram, spectrogram.power(waveform))
    return Outlier(waveform=waveform, log_mel=log_mel, kind=kind)
