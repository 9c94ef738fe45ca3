"""What a decoder raises in a way of its own is an error of the file."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from acoustic.errors import AudioDecodeError, UnsupportedAudioError
from acoustic.preprocess import decode
from acoustic.preprocess.decode import open_audio
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from tests.support.sounds import encode, sweep

WAV = encode(sweep(20.0), 22_050)


def webm() -> bytes:
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format="webm") as container:
        stream = container.add_stream("libopus", rate=48_000, layout="mono")
        sound = (0.5 * sweep(2.0, 48_000)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.sample_rate = 48_000
        resampler = av.AudioResampler(format="flt", layout="mono", rate=48_000)
        for part in resampler.resample(frame):
            for packet in stream.encode(part):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize("codec", [b"A_XPUS", b"A_\x00PUS", b"V_OPUS"])
def test_a_codec_that_nobody_knows(codec: bytes) -> None:
    data = webm()
    assert b"A_OPUS" in data
    with pytest.raises((UnsupportedAudioError, AudioDecodeError)):
        open_audio(data.replace(b"A_OPUS", codec))


@pytest.mark.parametrize(
    "error", [AttributeError("rate"), KeyError("x"), RuntimeError(), OSError()]
)
def test_any_exception_at_any_step(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(decode, "_open", fail)
        with pytest.raises(AudioDecodeError, match="cannot be decoded"):
            open_audio(WAV)
    with monkeypatch.context() as patch:
        patch.setattr("acoustic.preprocess.preprocessor.read_complete", fail)
        with pytest.raises(AudioDecodeError, match="cannot be decoded"):
            Preprocessor(PreprocessConfig()).process(WAV, "fast")


def test_a_lack_of_memory_is_no_fault_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(decode, "_open", fail)
    with pytest.raises(MemoryError):
        open_audio(WAV)
