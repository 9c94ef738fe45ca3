"""Levels: uint8 and dB are two forms of one number, to half a step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from acoustic.levels import MAX_LEVEL, db_per_level, dequantise, quantise, renormalise
from tests.support.properties import quick

depths = st.sampled_from([40.0, 60.0, 80.0, 100.0])


@quick
@given(shares=hnp.arrays(np.float32, 20, elements=st.floats(0, 1, width=32)), top_db=depths)
def test_a_level_is_within_half_a_step_of_its_decibels(
    shares: npt.NDArray[np.float32], top_db: float
) -> None:
    levels_db = (shares - 1) * np.float32(top_db)
    stored = quantise(levels_db, top_db)
    restored_db = dequantise(stored.astype(np.float64), top_db)
    assert np.abs(restored_db - levels_db).max() <= 0.5001 * db_per_level(top_db)
    order = np.argsort(levels_db)
    assert (np.diff(stored[order].astype(int)) >= 0).all()


@quick
@given(top_db=depths)
def test_every_level_survives_a_round_trip(top_db: float) -> None:
    levels = np.arange(256, dtype=np.uint8)
    levels_db = dequantise(levels.astype(np.float32), top_db)
    assert (levels_db[0], levels_db[-1]) == (-top_db, 0)
    np.testing.assert_array_equal(quantise(levels_db, top_db), levels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_and_arrays_have_the_same_decibels(dtype: torch.dtype) -> None:
    levels = torch.arange(256, dtype=dtype)
    found = dequantise(levels, 80.0)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.numpy(), dequantise(levels.numpy(), 80.0), rtol=1e-6)


@quick
@given(
    windows=hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6)))
)
def test_renormalising_moves_each_window_to_the_top_and_keeps_its_differences(
    windows: npt.NDArray[np.uint8],
) -> None:
    found = renormalise(windows)
    assert found.dtype == np.uint8
    assert (found.max(axis=(1, 2)) == MAX_LEVEL).all()
    moved = found.astype(int) - windows
    assert (moved == moved[:, :1, :1]).all()
    np.testing.assert_array_equal(renormalise(found), found)
