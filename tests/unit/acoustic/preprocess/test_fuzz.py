"""Any bytes give features or an InputError, never another exception."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acoustic.errors import InputError
from acoustic.geometry import MelConfig
from acoustic.preprocess.guard import DecodeLimits
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from tests.support.encode_av import encode_av
from tests.support.odd_files import ape, id3
from tests.support.sounds import encode, sweep

PREPROCESSOR = Preprocessor(
    PreprocessConfig(
        mel=MelConfig(n_frames=16),
        min_duration_s=0.2,
        limits=DecodeLimits(max_decoded_bytes=32 << 20),
    )
)
SEEDS = {
    kind: encode(sweep(1.5, 22_050), 22_050, kind) for kind in ("wav", "flac", "ogg", "mp3", "aiff")
}
SEEDS |= {
    "mp3 joined": SEEDS["mp3"] * 2,
    "mp3 behind tags": id3() + ape() + bytes(50) + SEEDS["mp3"],
    "ogg chained": SEEDS["ogg"] + encode(sweep(1.0, 16_000), 16_000, "ogg"),
    "flac joined": SEEDS["flac"] * 2,
    "wav joined": SEEDS["wav"] + SEEDS["wav"],
    "adts joined": encode_av(sweep(1.0, 48_000), "adts") * 2,
    "flac in ogg": encode_av(sweep(1.0, 48_000), "ogg"),
    "mp4": encode_av(sweep(1.0, 48_000), "mp4"),
    "opposite phase": encode(np.stack([sweep(1.5), -sweep(1.5)], axis=1), 22_050, "flac"),
}
MAGICS = [
    b"RIFF\x00\x00\x00\x00WAVE",
    b"fLaC",
    b"OggS",
    b"ID3",
    b"FORM\x00\x00\x00\x00AIFF",
    b"caff",
]


def check_survives(data: bytes) -> None:
    with contextlib.suppress(InputError):
        features = PREPROCESSOR.process(data, "balanced")
        assert features.log_mel.dtype == "uint8"
        assert features.log_mel.shape[1:] == (128, 16)


@given(magic=st.sampled_from([b"", *MAGICS]), tail=st.binary(max_size=400))
@settings(max_examples=150, deadline=None)
def test_random_bytes(magic: bytes, tail: bytes) -> None:
    check_survives(magic + tail)


@pytest.mark.parametrize("kind", SEEDS)
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_files(kind: str, data: st.DataObject) -> None:
    """A valid file with 1 to 8 bytes changed, mostly in its header, and possibly truncated."""
    mutated = bytearray(SEEDS[kind])
    n_header = min(200, len(mutated))
    for _ in range(data.draw(st.integers(1, 8))):
        reach = data.draw(st.sampled_from([n_header, len(mutated)]))
        mutated[data.draw(st.integers(0, reach - 1))] = data.draw(st.integers(0, 255))
    check_survives(bytes(mutated[: data.draw(st.integers(1, len(mutated)))]))
