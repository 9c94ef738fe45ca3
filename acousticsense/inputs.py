"""Inputs of the classifier (paths, bytes, file objects, arrays) as file bytes and a name."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from acoustic.errors import FileUnreadableError, UnsupportedAudioError
from acoustic.file_walk import printable, walk_files
from acoustic.preprocess.guard import DecodeLimits

Waveform = npt.NDArray[np.floating]
AudioInput = (
    str | PathLike[str] | bytes | BinaryIO | tuple[Waveform, int] | Mapping[str, Any]
)  # a dictionary has "array" and "sampling_rate", as Hugging Face's data sets have it


@dataclass(frozen=True, slots=True)
class NamedAudio:
    """Bytes of an audio file.

    Attributes:
        name: file name or path as the caller gave it, "" where there is none.
        data: content of the file.
    """

    name: str
    data: bytes


def read_input(value: AudioInput) -> NamedAudio:
    """The audio of one input.

    Args:
        value: a path, the bytes of a file, a binary file object, `(waveform, sample_rate)`, or a
            mapping with "array" and "sampling_rate". A waveform is (n,) or (channels, n) or
            (n, channels), full scale 1.

    Raises:
        FileUnreadableError: the path or the file object cannot be read.
        UnsupportedAudioError: a waveform of another shape, type or rate, or a text file.
        TypeError: any other kind of value.
    """
    if isinstance(value, (str, PathLike)):
        return NamedAudio(str(value), read_file(Path(value)))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return NamedAudio("", bytes(value))
    if _is_waveform(value):
        return NamedAudio("", to_wav(*value))
    if isinstance(value, Mapping) and {"array", "sampling_rate"} <= value.keys():
        wav = to_wav(value["array"], value["sampling_rate"])
        return NamedAudio(str(value.get("path") or ""), wav)
    if hasattr(value, "read"):
        return _read_object(cast(BinaryIO, value))
    raise TypeError(
        f"cannot classify a {type(value).__name__}: pass a path, bytes, a binary file, "
        '(waveform, sample_rate) or {"array": …, "sampling_rate": …}'
    )


def read_file(path: Path) -> bytes:
    """Content of a local file.

    Raises:
        FileUnreadableError: it does not exist, is a folder or may not be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise FileUnreadableError(f"{printable(str(path))} cannot be read: {reason}") from error


def _read_object(file: BinaryIO) -> NamedAudio:
    name = getattr(file, "name", "")
    name = name if isinstance(name, str) else ""
    try:
        data = file.read()
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise FileUnreadableError(f"{name or 'the file'} cannot be read: {error}") from error
    if not isinstance(data, bytes):
        raise UnsupportedAudioError(
            f"{name or 'the file'} gives {type(data).__name__}, not bytes: open it in binary mode"
        )
    return NamedAudio(name, data)


def to_wav(waveform: Waveform, sample_rate: int) -> bytes:
    """A 32-bit float WAV file, which keeps every sample.

    Args:
        waveform: (n,), (channels, n) or (n, channels) of floats, full scale 1; the shorter axis
            is taken for the channels.
        sample_rate: sample rate, Hz.

    Raises:
        UnsupportedAudioError: another number of axes, no sample, too many channels, integers or
            a rate that no file can have.
    """
    import soundfile as sf

    try:
        samples, rate = np.asarray(waveform), int(sample_rate)
    except (TypeError, ValueError, OverflowError) as error:
        raise UnsupportedAudioError(f"the waveform cannot be read: {error}") from error
    if samples.dtype.kind != "f":
        raise UnsupportedAudioError(
            f"the waveform has type {samples.dtype}: pass floats of full scale 1, such as "
            "samples / 32768 of 16-bit integers"
        )
    if samples.ndim == 2 and samples.shape[0] < samples.shape[1]:
        samples = samples.T
    channels = samples.shape[1] if samples.ndim == 2 else 1
    max_channels = DecodeLimits().max_channels
    if samples.ndim not in (1, 2) or not samples.size or channels > max_channels:
        raise UnsupportedAudioError(
            f"the waveform has shape {np.shape(waveform)}: (n,), (channels, n) or (n, channels) "
            f"with at most {max_channels} channels is needed"
        )
    file = io.BytesIO()
    try:
        sf.write(file, samples.astype(np.float32), rate, format="WAV", subtype="FLOAT")
    except (sf.LibsndfileError, OverflowError) as error:
        raise UnsupportedAudioError(f"the sample rate is {sample_rate} Hz: {error}") from error
    return file.getvalue()


def expand(inputs: AudioInput | Iterable[AudioInput]) -> Iterator[AudioInput]:
    """The inputs one by one; a path to a folder becomes the audio files in it, sorted by name.

    Args:
        inputs: one input, or any iterable of inputs; folders among them are replaced by their
            audio files.
    """
    several = [inputs] if _is_single(inputs) else inputs
    for each in cast(Iterable[AudioInput], several):
        if isinstance(each, (str, PathLike)) and Path(each).is_dir():
            yield from map(Path, walk_files(each).paths)
        else:
            yield each


def _is_single(value: Any) -> bool:
    kinds = (str, PathLike, bytes, bytearray, memoryview, Mapping)
    return isinstance(value, kinds) or hasattr(value, "read") or _is_waveform(value)


def _is_waveform(value: Any) -> bool:
    """Whether it is `(waveform, sample_rate)`, and not two inputs of another kind."""
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], (Real, np.number))
