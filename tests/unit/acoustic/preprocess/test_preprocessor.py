"""Stage 1 (preprocessing) as a whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from acoustic.content_cache import CacheConfig
from acoustic.errors import (
    AudioDecodeError,
    AudioTooShortError,
    InvalidOptionError,
    SilentAudioError,
)
from acoustic.geometry import MelConfig
from acoustic.levels import quantise
from acoustic.preprocess.mel import MelSpectrogram, tile_frames
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from acoustic.request import Effort
from tests.support.decoding import decode_whole
from tests.support.sounds import encode, noise, sweep, tone


@pytest.fixture(scope="module")
def preprocessor() -> Preprocessor:
    return Preprocessor(PreprocessConfig())


@pytest.mark.parametrize(("effort", "n_windows"), [("fast", 1), ("balanced", 3), ("thorough", 10)])
def test_effort_is_the_number_of_windows(
    preprocessor: Preprocessor, effort: Effort, n_windows: int
) -> None:
    features = preprocessor.process(encode(sweep(60.0), 22_050), effort)
    assert features.log_mel.shape == (n_windows, 128, 144)
    assert features.log_mel.dtype == np.uint8
    assert len(features.facts.segments) == n_windows
    assert features.log_mel.flags.c_contiguous


def test_three_windows_fit_rays_inline_limit(preprocessor: Preprocessor) -> None:
    features = preprocessor.process(encode(sweep(60.0), 22_050), "balanced")
    assert features.log_mel.nbytes < 100 * 1024


@pytest.mark.parametrize("kind", ["wav", "flac"])
@pytest.mark.parametrize("rate", [22_050, 44_100])
def test_windows_are_what_the_whole_file_has_there(
    preprocessor: Preprocessor, kind: str, rate: int
) -> None:
    """Decoding only the seconds of the windows gives the same features as decoding everything."""
    data = encode(sweep(40.0, rate) + noise(40.0, rate, 0.05), rate, kind)
    features = preprocessor.process(data, "balanced")
    whole = decode_whole(data, 22_050)
    mel = MelConfig()
    for log_mel, segment in zip(features.log_mel, features.facts.segments, strict=True):
        start = round(segment.start_s * 22_050)
        expected = MelSpectrogram(mel)(whole[start : start + mel.window_samples])
        ours_db = log_mel * (80 / 255) - 80.0
        assert np.abs(ours_db - expected).mean() < 0.2
        assert np.corrcoef(ours_db.ravel(), expected.ravel())[0, 1] > 0.999


def test_each_window_has_its_own_maximum(preprocessor: Preprocessor) -> None:
    quiet_then_loud = np.concatenate([noise(30.0, level=0.001), noise(30.0, level=0.3)])
    features = preprocessor.process(encode(quiet_then_loud, 22_050, "wav24"), "thorough")
    assert (features.log_mel.max(axis=(1, 2)) == 255).all()


def test_a_track_shorter_than_a_window_is_repeated(preprocessor: Preprocessor) -> None:
    features = preprocessor.process(encode(noise(2.0), 22_050), "thorough")
    assert features.log_mel.shape == (1, 128, 144)
    period = 1 + (2 * 22_050 - 2048) // 915
    np.testing.assert_array_equal(
        features.log_mel[0, :, :20], features.log_mel[0, :, period : period + 20]
    )


def test_too_short_states_value_and_limit(preprocessor: Preprocessor) -> None:
    with pytest.raises(AudioTooShortError, match=r"0\.50 s, limit is 1\.00 s"):
        preprocessor.process(encode(noise(0.5), 22_050), "fast")


def test_silence_is_refused(preprocessor: Preprocessor) -> None:
    with pytest.raises(SilentAudioError, match="limit is -75 dB"):
        preprocessor.process(encode(np.zeros(22_050 * 10, np.float32), 22_050), "balanced")


def test_silent_windows_do_not_vote(preprocessor: Preprocessor) -> None:
    half = np.concatenate([np.zeros(22_050 * 30, np.float32), noise(30.0)])
    features = preprocessor.process(encode(half, 22_050), "thorough")
    assert 4 <= features.n_windows <= 6
    assert all(segment.end_s > 30 for segment in features.facts.segments)


def test_what_was_left_out_still_counts_as_silence(preprocessor: Preprocessor) -> None:
    mostly = np.concatenate([np.zeros(22_050 * 48, np.float32), noise(12.0)])
    quality = preprocessor.process(encode(mostly, 22_050), "thorough").facts.quality
    assert quality.silence_ratio == pytest.approx(0.8, abs=0.1)


def test_an_unknown_effort_is_refused(preprocessor: Preprocessor) -> None:
    with pytest.raises(InvalidOptionError, match="not fast, balanced, thorough"):
        preprocessor.process(encode(noise(9.0), 22_050), "extreme")  # type: ignore[arg-type]


def test_a_header_that_promises_too_much_is_an_error(preprocessor: Preprocessor) -> None:
    data = bytearray(encode(noise(20.0), 22_050, "flac"))
    data[22:26] = (22_050 * 600).to_bytes(4, "big")
    with pytest.raises(AudioDecodeError, match=r"cannot be decoded|truncated"):
        preprocessor.process(bytes(data), "balanced")


def test_the_answer_depends_on_the_bytes_alone(preprocessor: Preprocessor) -> None:
    data = encode(sweep(30.0), 22_050, "mp3")
    first = preprocessor.process(data, "balanced")
    preprocessor.process(encode(noise(30.0), 22_050), "balanced")
    np.testing.assert_array_equal(first.log_mel, preprocessor.process(data, "balanced").log_mel)


def test_a_second_look_comes_from_the_cache(tmp_path: Path) -> None:
    cached = Preprocessor(PreprocessConfig(), CacheConfig(folder=str(tmp_path)))
    data = encode(sweep(30.0), 22_050)
    first, second = cached.process(data, "fast"), cached.process(data, "fast")
    assert not first.facts.cached
    assert second.facts.cached
    assert "decode" not in second.timings_ms
    np.testing.assert_array_equal(first.log_mel, second.log_mel)
    assert cached.process(data, "balanced").facts.cached is False


def test_quantising_keeps_a_sixth_of_a_decibel(rng: np.random.Generator) -> None:
    log_mel = rng.uniform(-80, 0, (128, 144)).astype(np.float32)
    back = quantise(log_mel, 80.0) * (80 / 255) - 80
    assert np.abs(back - log_mel).max() <= 80 / 255 / 2 + 1e-4


def test_tiling_fills_the_window() -> None:
    frames = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(tile_frames(frames, 7)[0], [0, 1, 2, 0, 1, 2, 0])
    assert tile_frames(frames, 2).shape == (2, 3)


def test_a_gap_of_rounding_is_closed(preprocessor: Preprocessor) -> None:
    """48 kHz to 22.05 kHz may leave a window a sample short; it still has all its frames."""
    features = preprocessor.process(encode(tone(440, 20.0, 48_000), 48_000), "balanced")
    assert features.log_mel.shape == (3, 128, 144)
