"""Options of a request are checked where they are made, with value and limits in the message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic.errors import InvalidOptionError
from acoustic.request import (
    COVERAGES,
    EFFORTS,
    MAX_NAME_CHARACTERS,
    MAX_TOP_K,
    Effort,
    RequestOptions,
    check_coverage,
)
from tests.support.properties import quick

CHANGES = [
    ({"effort": "extreme"}, "effort is 'extreme', known are fast, balanced, thorough, auto"),
    ({"top_k": 0}, "top_k is 0, limits are 1 to 1000"),
    ({"top_k": MAX_TOP_K + 1}, "top_k is 1001, limits are 1 to 1000"),
    ({"coverage": 0.49}, r"coverage is 0\.49, limits are 0\.50 to 0\.99 in steps of 0\.01"),
    ({"coverage": 1.0}, "coverage is 1, limits are"),
    ({"coverage": float("nan")}, "coverage is nan"),
    ({"file": "x" * 256}, "file has 256 characters, limit is 255"),
]


@pytest.mark.parametrize(("changes", "message"), CHANGES)
def test_a_value_out_of_range_is_named_with_its_limits(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidOptionError, match=message):
        RequestOptions(**changes)  # type: ignore[arg-type]


@quick
@given(
    effort=st.sampled_from(EFFORTS),
    top_k=st.none() | st.integers(1, MAX_TOP_K),
    coverage=st.none() | st.sampled_from(COVERAGES),
    n_characters=st.integers(0, MAX_NAME_CHARACTERS),
)
def test_every_value_within_the_limits_is_kept(
    effort: Effort, top_k: int | None, coverage: float | None, n_characters: int
) -> None:
    file = "é" * n_characters
    options = RequestOptions(effort=effort, top_k=top_k, coverage=coverage, file=file)
    assert (options.effort, options.top_k, options.coverage) == (effort, top_k, coverage)
    assert options.file == file


@quick
@given(percent=st.integers(-20, 220), offset=st.sampled_from([0.0, 1e-9, 1e-4, 0.005]))
def test_a_coverage_is_accepted_where_it_is_a_percentage_from_50_to_99(
    percent: int, offset: float
) -> None:
    coverage = percent / 100 + offset
    if 50 <= percent <= 99 and offset < 1e-6:  # float error is not another coverage
        assert check_coverage(coverage) == coverage
    else:
        with pytest.raises(InvalidOptionError, match="coverage is"):
            check_coverage(coverage)


@quick
@given(top_k=st.integers(1, 40), n_classes=st.integers(2, 40))
def test_a_model_lists_at_most_its_own_genres(top_k: int, n_classes: int) -> None:
    options = RequestOptions(top_k=top_k)
    if top_k <= n_classes:
        options.check_model(n_classes)
    else:
        with pytest.raises(InvalidOptionError, match=f"limits are 1 to {n_classes}"):
            options.check_model(n_classes)
    RequestOptions().check_model(n_classes)
