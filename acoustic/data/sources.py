"""Data set formats and their rows: folders per genre, manifests (CSV, Parquet), mel packs.

    folder per genre    DATA/Jazz/take five.flac, or DATA/Jazz/ARTIST/take five.flac
    manifest            .csv or .parquet, or a folder with manifest.csv; one row per file
    mel pack            a folder with manifest.csv and mel_u8.npz: spectrograms, no audio

Columns of a manifest: path (or file), relative to the manifest; genre; and optionally group
(the artist or album that must stay on one side of a split), collection (who put the recordings
together: a library, a label, a shop, a data set), split (train or valid) and track (the same name
for the same recording in two data sets). Without a collection, each data set is one.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from acoustic.data.manifest import read_table
from acoustic.errors import AudioTooShortError, ConfigError
from acoustic.file_walk import PROGRAM_FOLDERS, walk_files
from acoustic.geometry import MelConfig
from acoustic.preprocess.decode import open_audio
from acoustic.preprocess.downmix import read_mono
from acoustic.preprocess.guard import DecodeLimits
from acoustic.preprocess.mel import MelSpectrogram, model_values
from acoustic.preprocess.preprocessor import PreprocessConfig
from acoustic.preprocess.waveform import resample
from acoustic.types import Segment, WindowValues

logger = logging.getLogger(__name__)

MANIFEST_FILE = "manifest.csv"
MEL_PACK_FILE = "mel_u8.npz"
MIN_CLIP_S = 1.0
MAX_CLIP_S = 120.0
"""Longest part of a file that is used, seconds, from its middle: more of a song adds little."""

LogMel = WindowValues
"""Values of a whole recording, (M, T_clip)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Row:
    """One labelled recording that is not decoded yet.

    Attributes:
        file: path within the data set; used in messages, and as the group if none is known.
        genre: genre name as written in the data.
        group: artist or album; "" if unknown.
        collection: who put it together with others; the name of the data set if none is stated.
        split: "train", "valid", or "" if none is stated.
        track: name of the recording, "" if none is stated.
        source: name of the data set.
        path: path of the audio file, or None for a stored spectrogram.
        content: hash of the file's bytes, where another file has as many; "" elsewhere.
        read: returns (M, T_clip) uint8, dB = x / 255 · 80 − 80; raises InputError or OSError.
    """

    file: str
    genre: str
    group: str
    collection: str
    split: str
    track: str
    source: str
    path: Path | None
    read: Callable[[], LogMel]
    content: str = ""


def list_rows(source: Path, mel: MelConfig, collection: str | None = None) -> list[Row]:
    """List the rows of one data set without decoding audio.

    Args:
        source: folder or manifest file.
        mel: geometry of the spectrograms.
        collection: name of the column of collections, where it is another than "collection".

    Raises:
        ConfigError: the source does not exist, has an unknown format, lacks a column, or its
            spectrograms have another number of bands.
    """
    source = source.resolve()
    if source.is_file():
        return list(_manifest_rows(source, mel, collection))
    if not source.is_dir():
        raise ConfigError(f"{source} does not exist")
    if (source / MEL_PACK_FILE).exists():
        return list(_mel_pack_rows(source, mel, collection))
    if (source / MANIFEST_FILE).exists():
        return list(_manifest_rows(source / MANIFEST_FILE, mel, collection))
    return list(_genre_folder_rows(source, mel))


def read_log_mel(path: Path, spectrogram: MelSpectrogram, mel: MelConfig) -> LogMel:
    """Compute the log-mel spectrogram of a file, at most of its middle MAX_CLIP_S seconds.

    Returns:
        (M, T_clip), T_clip ≥ T.

    Raises:
        OSError: the file cannot be read.
        InputError: the file cannot be decoded, or is shorter than one window; of absolute levels,
            whose windows are long and end in zeros, shorter than MIN_CLIP_S.
    """
    waveform = read_waveform(path, mel.sample_rate)
    if mel.is_absolute and waveform.size < MIN_CLIP_S * mel.sample_rate:
        raise AudioTooShortError(
            f"audio is {waveform.size / mel.sample_rate:.2f} s, limit is {MIN_CLIP_S:.2f} s"
        )
    if not mel.is_absolute and waveform.size < mel.window_samples:
        seconds = waveform.size / mel.sample_rate
        raise AudioTooShortError(
            f"audio is {seconds:.2f} s, shorter than one window of {mel.window_s:.2f} s"
        )
    return model_values(spectrogram, spectrogram.power(waveform))


def read_waveform(path: Path, sample_rate: int) -> npt.NDArray[np.float32]:
    """Decode at most the middle MAX_CLIP_S seconds of a file: (n,) float32 mono.

    Args:
        path: audio file.
        sample_rate: sample rate of the result, Hz.

    Raises:
        OSError: the file cannot be read.
        InputError: the file cannot be decoded.
    """
    limits = DecodeLimits()
    reader = open_audio(path.read_bytes(), limits)
    # Without a stated duration the first MAX_CLIP_S seconds are read.
    start_s = max(0.0, ((reader.info.duration_s or 0.0) - MAX_CLIP_S) / 2)
    segment = Segment(start_s=start_s, end_s=start_s + MAX_CLIP_S)
    silence_db = PreprocessConfig().silence_db
    (waveform,) = read_mono(reader.read, [segment], reader.info.channels, silence_db).waveforms
    return resample(waveform, sample_rate, limits)


def audio_rows(
    root: Path, files: Iterator[tuple[str, dict[str, str]]], source: str, mel: MelConfig
) -> Iterator[Row]:
    """Rows of audio files, from their paths relative to `root` and their columns."""
    spectrogram = MelSpectrogram(mel)

    def reader(path: Path) -> Callable[[], LogMel]:
        # A function of its own, so that each lambda keeps its own path.
        return lambda: read_log_mel(path, spectrogram, mel)

    for name, columns in files:
        path = root / name
        yield Row(
            file=name,
            genre=unicodedata.normalize("NFKC", columns["genre"]),
            group=columns["group"],
            collection=columns["collection"] or source,
            split=columns["split"],
            track=columns["track"],
            source=source,
            path=path,
            read=reader(path),
        )


def _genre_folder_rows(folder: Path, mel: MelConfig) -> Iterator[Row]:
    genres = sorted(
        path for path in folder.iterdir()
        if path.is_dir() and path.name not in PROGRAM_FOLDERS and not path.name.startswith(".")
    )  # fmt: skip
    if not genres:
        raise ConfigError(
            f"{folder} has no folder per genre, no {MANIFEST_FILE} and no {MEL_PACK_FILE}"
        )
    return audio_rows(folder, _files_by_genre(genres), folder.name, mel)


def _files_by_genre(genres: list[Path]) -> Iterator[tuple[str, dict[str, str]]]:
    n_skipped = 0
    for genre in genres:
        found = walk_files(genre)
        n_skipped += found.n_skipped
        if not found.paths:
            raise ConfigError(
                f"genre {genre.name!r} has no audio file: add some, or remove its folder"
            )
        for path in map(Path, found.paths):
            inside = path.relative_to(genre).parts
            group = inside[0] if len(inside) > 1 else ""
            name = str(path.relative_to(genre.parent))
            columns = dict.fromkeys(("split", "track", "collection"), "")
            yield name, {"genre": genre.name, "group": group, **columns}
    if n_skipped:
        logger.info("%d other files skipped: not audio by the ends of their names", n_skipped)


def _manifest_rows(path: Path, mel: MelConfig, collection: str | None) -> Iterator[Row]:
    rows = read_table(path, required=("path", "genre"), collection=collection)
    files = ((columns["path"], columns) for columns in rows)
    name = path.parent.name if path.name == MANIFEST_FILE else path.stem
    return audio_rows(path.parent, files, name, mel)


def _mel_pack_rows(folder: Path, mel: MelConfig, collection: str | None) -> Iterator[Row]:
    rows = read_table(folder / MANIFEST_FILE, required=("index", "genre"), collection=collection)
    spectrograms = _load_pack(folder, mel)

    def reader(index: int) -> Callable[[], LogMel]:
        return lambda: np.ascontiguousarray(spectrograms[index])

    for columns in rows:
        yield Row(
            file=columns["track"] or columns["index"],
            genre=unicodedata.normalize("NFKC", columns["genre"]),
            group=columns["group"],
            collection=columns["collection"] or folder.name,
            split=columns["split"],
            track=columns["track"],
            source=folder.name,
            path=None,
            read=reader(_pack_index(columns["index"], len(spectrograms))),
        )


def _load_pack(folder: Path, mel: MelConfig) -> LogMel:
    """Load the spectrograms of a mel pack: (K, M, T_clip) uint8."""
    try:
        with np.load(folder / MEL_PACK_FILE, allow_pickle=False) as pack:
            spectrograms = pack["X"]
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise ConfigError(f"{MEL_PACK_FILE} of {folder.name} cannot be read: {error}") from error
    if mel.is_absolute:
        raise ConfigError(
            f"{folder.name} has levels relative to a maximum, but the model's are absolute: give "
            "it the audio"
        )
    if spectrograms.dtype != np.uint8 or spectrograms.ndim != 3:
        raise ConfigError(
            f"X of {folder.name} is {spectrograms.dtype} with {spectrograms.ndim} axes, not uint8 "
            "with three: clips, bands and frames"
        )
    _, n_mels, n_frames = spectrograms.shape
    if n_mels != mel.n_mels:
        raise ConfigError(f"{folder.name} has {n_mels} mel bands, the model needs {mel.n_mels}")
    if n_frames < mel.n_frames:
        raise ConfigError(f"{folder.name} has {n_frames} frames, a window needs {mel.n_frames}")
    return np.asarray(spectrograms)


def _pack_index(text: str, n_clips: int) -> int:
    if not text.isdecimal() or int(text) >= n_clips:
        raise ConfigError(f"index {text!r} is not in the pack, which has {n_clips} clips from 0")
    return int(text)
