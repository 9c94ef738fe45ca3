"""Limits on decoding: every one is exact, and the message has value, limit and unit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from acoustic.errors import AudioDecodeError, AudioTooLongError, UnsupportedAudioError
from acoustic.preprocess.guard import FULL_SCALE, DecodeGuard, DecodeLimits
from tests.support.properties import quick

LIMITS = DecodeLimits(
    min_sample_rate=8_000, max_sample_rate=48_000, max_channels=2, max_duration_s=60.0
)


@quick
@given(rate=st.integers(0, 100_000), channels=st.integers(-1, 5))
def test_a_layout_is_accepted_within_the_limits(rate: int, channels: int) -> None:
    guard = DecodeGuard(LIMITS)
    if not 8_000 <= rate <= 48_000:
        with pytest.raises(UnsupportedAudioError, match=f"{rate} Hz, limits are 8000 to 48000 Hz"):
            guard.check_layout(rate, channels)
    elif not 1 <= channels <= 2:
        with pytest.raises(UnsupportedAudioError, match=f"{channels} channels, limit is 2"):
            guard.check_layout(rate, channels)
    else:
        guard.check_layout(rate, channels)


def test_a_duration_at_the_limit_is_accepted() -> None:
    guard = DecodeGuard(LIMITS)
    guard.check_duration(60.0)
    with pytest.raises(AudioTooLongError, match=r"1\.1 min, limit is 1\.0 min; shorten the file"):
        guard.check_duration(66.0)
    for nothing in (0.0, -1.0):
        with pytest.raises(AudioDecodeError, match="no audio: 0 samples"):
            guard.check_duration(nothing)


@quick
@given(blocks=st.lists(st.tuples(st.integers(0, 40_000), st.integers(1, 2)), max_size=12))
def test_blocks_add_up_to_the_limit_on_bytes(blocks: list[tuple[int, int]]) -> None:
    limit = 1 << 20
    guard = DecodeGuard(DecodeLimits(max_decoded_bytes=limit))
    n_bytes = 0
    for n_frames, channels in blocks:
        n_bytes += 4 * n_frames * channels
        if n_bytes > limit:
            with pytest.raises(AudioTooLongError, match="more than 1 MiB"):
                guard.count(n_frames, channels)
            return
        guard.count(n_frames, channels)


def test_two_requests_do_not_share_their_count() -> None:
    limits = DecodeLimits(max_decoded_bytes=400)
    for _ in range(3):
        DecodeGuard(limits).count(100, 1)


@quick
@example(n_clipped=1, seed=0)  # a single sample of exactly FULL_SCALE
@given(n_clipped=st.integers(0, 20), seed=st.integers(0, 99))
def test_clipped_samples_are_counted_at_both_ends_of_the_scale(n_clipped: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    block = rng.uniform(-0.99, 0.99, (20, 2)).astype(np.float32)
    chosen = rng.choice(40, n_clipped, replace=False)
    block.ravel()[chosen] = rng.choice([-1.0, 1.0, FULL_SCALE, -1.5], n_clipped)
    assert DecodeGuard(LIMITS).inspect(block) == n_clipped


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_refused(bad: float) -> None:
    block = np.zeros((10, 2), np.float32)
    block[7, 1] = bad
    with pytest.raises(AudioDecodeError, match="not finite"):
        DecodeGuard(LIMITS).inspect(block)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_sample_at_the_largest_magnitude_is_accepted(sign: int) -> None:
    guard = DecodeGuard(DecodeLimits(max_abs_sample=2.0))
    assert guard.inspect(np.full((1, 1), 2.0 * sign, np.float32)) == 1
    with pytest.raises(AudioDecodeError, match=r"samples reach 2\.5, limit is 2 \(full scale is 1"):
        guard.inspect(np.full((1, 1), 2.5 * sign, np.float32))


@pytest.mark.parametrize("name", DecodeLimits.__slots__)
def test_a_limit_that_is_not_positive_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0, must be positive"):
        DecodeLimits(**{name: 0})


def test_limits_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match="min_sample_rate is above max_sample_rate"):
        DecodeLimits(min_sample_rate=48_000, max_sample_rate=44_100)
