"""Mixing down: the plain average unless channels cancel, decided for all segments alike."""

from __future__ import annotations

import numpy as np
import pytest

from acoustic.preprocess.decode import open_audio
from acoustic.preprocess.downmix import CANCELLED_RATIO, Decoded, read_mono
from acoustic.preprocess.guard import DecodeLimits
from acoustic.types import Segment
from tests.support.sounds import Samples, encode, noise, sweep

RATE = 22_050
SEGMENTS = (Segment(start_s=0.0, end_s=2.0), Segment(start_s=3.0, end_s=5.0))


def decode(channels: Samples, kind: str = "wavfloat") -> Decoded:
    """Decode (channels, n) samples."""
    reader = open_audio(encode(channels.T, RATE, kind))
    return read_mono(reader.read, SEGMENTS, len(channels), -75.0)


def music(seed: int = 0) -> Samples:
    return 0.5 * sweep(6.0, RATE) + noise(6.0, RATE, 0.05, seed)


def samples_of(mono: Samples) -> list[Samples]:
    return [mono[round(s.start_s * RATE) : round(s.end_s * RATE)] for s in SEGMENTS]


@pytest.mark.parametrize("right", [1.0, 0.3, 0.0, -0.5])
def test_the_average_is_kept_where_nothing_cancels(right: float) -> None:
    left = music()
    channels = np.stack([left, np.float32(right) * left])
    found = decode(channels)
    assert found.cancellation < CANCELLED_RATIO
    half = np.full(2, 0.5, np.float32)
    for waveform, expected in zip(found.waveforms, samples_of(channels.T @ half), strict=True):
        np.testing.assert_allclose(waveform.samples, expected, atol=1e-6)


def test_the_share_that_is_lost_is_that_of_theory() -> None:
    left = music()
    assert decode(np.stack([left, left])).cancellation == pytest.approx(0, abs=1e-4)
    assert decode(np.stack([left, 0 * left])).cancellation == pytest.approx(0.5, abs=1e-4)
    assert decode(np.stack([left, noise(6.0, RATE, float(left.std()), 1)])).cancellation == (
        pytest.approx(0.5, abs=0.05)
    )


@pytest.mark.parametrize("right", [-1.0, -0.999, -0.9])
@pytest.mark.parametrize("kind", ["wavfloat", "ogg", "mp3"])
def test_opposite_channels_give_the_left_one(right: float, kind: str) -> None:
    left = music()
    found = decode(np.stack([left, np.float32(right) * left]), kind)
    assert found.cancellation > CANCELLED_RATIO
    for waveform, expected in zip(found.waveforms, samples_of(left), strict=True):
        assert np.sqrt(np.mean(waveform.samples**2)) == pytest.approx(expected.std(), rel=0.1)
    if kind == "wavfloat":
        np.testing.assert_array_equal(found.waveforms[0].samples, samples_of(left)[0])


def test_the_loudest_channel_is_taken() -> None:
    left = music()
    found = decode(np.stack([0.9 * left, -left]))
    np.testing.assert_array_equal(found.waveforms[0].samples, -samples_of(left)[0])


@pytest.mark.parametrize(
    "gains", [(1, -1, 0.5, -0.5), (1, -0.5, -0.5), (0, 1, -1, 0, 0, 0), (1, -1) * 4, (1, -1) * 16]
)
def test_more_than_two_channels(gains: tuple[float, ...]) -> None:
    left = music()
    found = decode(np.stack([np.float32(gain) * left for gain in gains]))
    assert found.cancellation > CANCELLED_RATIO
    np.testing.assert_allclose(np.abs(found.waveforms[1].samples), np.abs(samples_of(left)[1]))


def test_unrelated_channels_are_averaged_however_many() -> None:
    channels = np.stack([music(seed) * (seed == 3) for seed in range(16)])
    found = decode(channels)
    assert found.cancellation == pytest.approx(15 / 16, abs=0.01)
    assert found.waveforms[0].power == pytest.approx(float(channels[3].var()) / 256, rel=0.2)


def test_one_cancelled_segment_decides_for_all() -> None:
    left = music()
    right = left.copy()
    right[3 * RATE :] *= -1
    found = decode(np.stack([left, right]))
    for waveform, expected in zip(found.waveforms, samples_of(left), strict=True):
        np.testing.assert_array_equal(waveform.samples, expected)


def test_silence_decides_nothing() -> None:
    left = music()
    left[: 3 * RATE] = 0
    tiny = np.zeros_like(left)
    tiny[: 3 * RATE] = 1e-6
    found = decode(np.stack([left + tiny, left - tiny]))
    assert found.cancellation == pytest.approx(0, abs=1e-4)


def test_joined_recordings_with_other_channels_are_compared_as_well() -> None:
    left = music()
    part = left[: 3 * RATE]
    data = encode(part, RATE, "flac") + encode(np.stack([part, -part], axis=1), RATE, "flac")
    reader = open_audio(data)
    assert reader.info.channels == 2
    segments = (Segment(start_s=0.5, end_s=2.0), Segment(start_s=3.5, end_s=5.0))
    found = read_mono(reader.read, segments, reader.info.channels, -75.0)
    assert found.cancellation > CANCELLED_RATIO
    for waveform in found.waveforms:
        assert waveform.power == pytest.approx(float(part.var()), rel=0.3)


def test_the_comparison_needs_three_passes_at_most() -> None:
    """A long file of six channels stays below the limit on decoded bytes."""
    left = music()
    channels = np.stack([left, -left] * 3)
    limit = int(3.1 * channels.nbytes)
    reader = open_audio(encode(channels.T, RATE, "wavfloat"), DecodeLimits(max_decoded_bytes=limit))
    whole = (Segment(start_s=0.0, end_s=6.0),)
    assert read_mono(reader.read, whole, 6, -75.0).cancellation > CANCELLED_RATIO
