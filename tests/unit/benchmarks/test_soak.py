"""What a soak calls growth."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.soak import LIMITS, Limit, rises, series_of

RNG = np.random.default_rng(0)
STEADY = 1000 + 20 * RNG.normal(size=60)


@pytest.mark.parametrize(
    ("series", "is_rising"),
    [
        (STEADY, False),
        (STEADY + np.linspace(0, 300, 60), True),
        (STEADY + 500 * (np.arange(60) < 10), False),  # high at the start
        (STEADY - 400 * (np.arange(60) < 14), False),  # caches that fill
        (STEADY + 4000 * (np.arange(60) == 55), False),  # one peak
    ],
)
def test_growth_is_from_the_second_quarter_to_the_last(series: np.ndarray, is_rising: bool) -> None:
    assert rises(list(series), Limit(0.05, 60.0))[2] == is_rising


def test_logs_count_by_the_request() -> None:
    samples = [
        {**dict.fromkeys(LIMITS, 1.0), "log_bytes": 100.0 * i * i, "n_requests": 10.0 * i}
        for i in range(5)
    ]
    assert series_of(samples)["log_bytes_per_request"] == [10.0, 30.0, 50.0, 70.0]
