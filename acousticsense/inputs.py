"""What a caller may hand to the classifier, as the bytes of an audio file and a name."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from acoustic.errors import FileUnreadableError, UnsupportedAudioError

Waveform = npt.NDArray[np.floating]
AudioInput = (
    str | PathLike[str] | bytes | BinaryIO | tuple[Waveform, int] | Mapping[str, Any]
)  # a dictionary has "array" and "sampling_rate", as Hugging Face's data sets have it

MAX_CHANNELS = 32


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
        FileUnreadableError: the path cannot be read.
        UnsupportedAudioError: a waveform of another shape.
        TypeError: any other kind of value.
    """
    if isinstance(value, (str, PathLike)):
        return NamedAudio(str(value), read_file(Path(value)))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return NamedAudio("", bytes(value))
    if isinstance(value, tuple) and len(value) == 2:
        return NamedAudio("", to_wav(np.asarray(value[0]), int(value[1])))
    if isinstance(value, Mapping) and {"array", "sampling_rate"} <= value.keys():
        wav = to_wav(np.asarray(value["array"]), int(value["sampling_rate"]))
        return NamedAudio(str(value.get("path") or ""), wav)
    if hasattr(value, "read"):
        name = getattr(value, "name", "")
        return NamedAudio(name if isinstance(name, str) else "", value.read())
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
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise FileUnreadableError(f"{path} cannot be read: {reason}") from error


def to_wav(waveform: Waveform, sample_rate: int) -> bytes:
    """A 32-bit float WAV file, which keeps every sample.

    Args:
        waveform: (n,), (channels, n) or (n, channels); the shorter axis is taken for the channels.
        sample_rate: sample rate, Hz.

    Raises:
        UnsupportedAudioError: another number of axes, no sample, or too many channels.
    """
    import soundfile as sf

    samples = np.asarray(waveform, np.float32)
    if samples.ndim == 2 and samples.shape[0] < samples.shape[1]:
        samples = samples.T
    channels = samples.shape[1] if samples.ndim == 2 else 1
    if samples.ndim not in (1, 2) or not samples.size or channels > MAX_CHANNELS:
        raise UnsupportedAudioError(
            f"the waveform has shape {np.shape(waveform)}: (n,), (channels, n) or (n, channels) "
            f"with at most {MAX_CHANNELS} channels is needed"
        )
    file = io.BytesIO()
    sf.write(file, samples, sample_rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def expand(inputs: AudioInput | Iterable[AudioInput]) -> Iterator[AudioInput]:
    """The inputs one by one; a path to a folder becomes the audio files in it, sorted by name.

    Args:
        inputs: a path, or any iterable of inputs; a folder may stand for its files in it.
    """
    from acoustic.preprocess.containers import SUFFIXES

    if isinstance(inputs, (str, PathLike)):
        inputs = [inputs]
    for each in inputs:
        if isinstance(each, (str, PathLike)) and Path(each).is_dir():
            yield from sorted(p for p in Path(each).rglob("*") if p.suffix.lower() in SUFFIXES)
        else:
            yield each  # type: ignore[misc]
