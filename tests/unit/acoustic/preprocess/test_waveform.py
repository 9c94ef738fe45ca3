"""Samples: mixing down is the mean over channels; resampling keeps length, sum and order."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic.errors import AudioTooLongError
from acoustic.preprocess.guard import DecodeLimits
from acoustic.preprocess.waveform import Waveform, mix_down, resample
from tests.support.properties import quick
from tests.support.sounds import sweep

LIMITS = DecodeLimits()
rates = st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000])


def waveform(samples: np.ndarray, rate: int) -> Waveform:
    return Waveform(
        samples=samples.astype(np.float32),
        sample_rate=rate,
        clipping_ratio=0.0,
        channels_power=0.0,
    )


@quick
@given(n=st.integers(0, 50), channels=st.integers(1, 32), seed=st.integers(0, 99))
def test_mixing_down_is_the_mean_over_the_channels(n: int, channels: int, seed: int) -> None:
    block = np.random.default_rng(seed).normal(size=(n, channels)).astype(np.float32)
    mixed = mix_down(block)
    assert (mixed.shape, mixed.dtype) == ((n,), np.float32)
    expected = block.astype(float).sum(axis=1) / channels
    np.testing.assert_allclose(mixed, expected, atol=1e-6)


@quick
@given(rate=rates, target=rates, n=st.integers(1, 5000))
def test_the_length_follows_the_ratio_of_the_rates(rate: int, target: int, n: int) -> None:
    found = resample(waveform(np.zeros(n), rate), target, LIMITS)
    assert found.dtype == np.float32
    assert abs(found.size - n * target / rate) <= 1


def test_the_same_rate_copies_nothing() -> None:
    made = waveform(np.arange(5), 22_050)
    assert resample(made, 22_050, LIMITS) is made.samples


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_there_and_back_is_the_same_sound(rate: int) -> None:
    samples = sweep(1.0)  # up to a quarter of its rate, below half of every rate here
    there = resample(waveform(samples, 22_050), rate, LIMITS)
    back = resample(waveform(there, rate), 22_050, LIMITS)
    middle = slice(1000, 21_000)
    np.testing.assert_allclose(back[middle], samples[middle], atol=2e-3)


def test_resampling_is_linear(rng: np.random.Generator) -> None:
    a, b = rng.normal(0, 0.1, (2, 3000))
    sums = [resample(waveform(x, 44_100), 22_050, LIMITS) for x in (a, b, a + 2 * b)]
    np.testing.assert_allclose(sums[0] + 2 * sums[1], sums[2], atol=1e-5)


@pytest.mark.parametrize(("excess", "is_refused"), [(0, False), (1, True)])
def test_the_limit_is_exact_to_the_sample(excess: int, is_refused: bool) -> None:
    n_out = math.ceil(1000 * 22_050 / 8_000)
    limits = DecodeLimits(max_resampled_samples=n_out - excess)
    made = waveform(np.zeros(1000), 8_000)
    if is_refused:
        with pytest.raises(AudioTooLongError, match=f"{n_out} samples after resampling, limit is"):
            resample(made, 22_050, limits)
    else:
        assert resample(made, 22_050, limits).size <= n_out
