"""Synthetic audio in the containers that need PyAV."""

from __future__ import annotations

import io

import numpy as np
import pytest

from tests.support.sounds import Samples

av = pytest.importorskip("av", reason="the formats extra is not installed")

CODECS = {
    "mp4": "aac",
    "adts": "aac",
    "webm": "libopus",
    "ogg": "flac",
    "mp4-ac3": "ac3",
    "mp2": "mp2",
}
RATE = 48_000


def encode_av(
    samples: Samples, kind: str, channels: int = 1, rate: int = RATE, bit_rate: int = 128_000
) -> bytes:
    """Samples (n,) in every channel of a file, or (channels, n)."""
    file = io.BytesIO()
    layout = {1: "mono", 2: "stereo"}[channels]
    with av.open(file, "w", format=kind.partition("-")[0]) as container:
        stream = container.add_stream(CODECS[kind], rate=rate, layout=layout)
        is_flac = CODECS[kind] == "flac"
        needs_integers = CODECS[kind] in ("flac", "mp2")
        if not is_flac:
            stream.bit_rate = bit_rate * channels
        block = np.tile(samples, (channels, 1)) if samples.ndim == 1 else samples
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(block, np.float32), format="fltp", layout=layout
        )
        frame.sample_rate, frame.pts = rate, 0
        if needs_integers:
            (frame,) = av.AudioResampler(format="s16", layout=layout, rate=rate).resample(frame)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return file.getvalue()
