"""Geometry of a window: as many samples as its frames need, and nothing that cannot work."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic.geometry import MelConfig
from acoustic.preprocess.mel import MelSpectrogram
from tests.support.properties import quick


@quick
@given(
    n_fft=st.sampled_from([256, 512, 1024]),
    hop_length=st.integers(50, 256),
    n_frames=st.integers(1, 40),
)
def test_the_samples_of_a_window_give_exactly_its_frames(
    n_fft: int, hop_length: int, n_frames: int
) -> None:
    mel = MelConfig(n_fft=n_fft, hop_length=hop_length, n_frames=n_frames, n_mels=16)
    spectrogram = MelSpectrogram(mel)
    samples = np.random.default_rng(0).normal(size=mel.window_samples + hop_length)
    exact = spectrogram(samples[: mel.window_samples].astype(np.float32))
    assert exact.shape == (16, n_frames)
    one_more = spectrogram(samples.astype(np.float32))
    assert one_more.shape == (16, n_frames + 1)


def test_a_window_of_the_default_geometry_lasts_six_seconds() -> None:
    mel = MelConfig()
    assert mel.window_samples == 143 * 915 + 2048
    assert mel.window_s == pytest.approx(6.027, abs=1e-3)


@pytest.mark.parametrize(
    "size", ["sample_rate", "n_fft", "hop_length", "n_mels", "n_frames", "top_db"]
)
def test_a_size_of_zero_is_refused(size: str) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        MelConfig(**{size: 0})


@pytest.mark.parametrize(
    "edges", [{"f_min": -1.0}, {"f_min": 11_025.0}, {"f_max": 11_026.0}, {"sample_rate": 16_000}]
)
def test_bands_outside_the_spectrum_are_refused(edges: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="half the sample rate"):
        MelConfig(**edges)  # type: ignore[arg-type]


TWO = {
    "sample_rate": 16_000, "n_fft": 512, "hop_length": 160, "n_mels": 160, "f_min": 0.0,
    "f_max": 8_000.0, "bands": "yamnet_musicnn",
}  # fmt: skip


def test_two_spectrograms_are_the_rows_of_one_window() -> None:
    mel = MelConfig(**TWO)  # type: ignore[arg-type]
    first, second = mel.blocks
    assert first.n_mels + second.n_mels == mel.n_mels
    assert (first.bands, first.f_min, first.f_max) == ("htk", 125.0, 7_500.0)
    assert (second.bands, second.f_min, second.f_max) == ("slaney", 0.0, 8_000.0)
    assert MelConfig().blocks == (MelConfig(),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_mels": 128}, "n_mels is 128, but bands yamnet_musicnn are 64 and 96"),
        ({"algorithm": "log_mel_absolute"}, "log_mel_absolute takes the power"),
    ],
)
def test_two_spectrograms_need_their_rows_and_relative_levels(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MelConfig(**{**TWO, **change})  # type: ignore[arg-type]
