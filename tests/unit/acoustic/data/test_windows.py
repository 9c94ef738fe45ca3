"""Windows of stored spectrograms lie where serving takes them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic.data.windows import cut_windows
from acoustic.preprocess.segments import plan_segments
from tests.support.properties import quick


def counting(n_frames: int, n_mels: int = 2) -> np.ndarray:
    """Frame t has the level t in band 0, so that a window's place can be read from it."""
    log_mel = np.zeros((n_mels, n_frames), np.uint8)
    log_mel[0] = np.arange(n_frames)
    return log_mel


@quick
@given(n_clip=st.integers(5, 250), n_frames=st.integers(1, 100), n_windows=st.integers(1, 12))
def test_windows_are_consecutive_frames_spread_symmetrically(
    n_clip: int, n_frames: int, n_windows: int
) -> None:
    n_frames = min(n_frames, n_clip)
    found = cut_windows(counting(n_clip), n_frames, n_windows)
    assert found.shape == (n_windows, 2, n_frames)
    assert (np.diff(found[:, 0].astype(int), axis=1) == 1).all()
    # Renormalised: the last frame of band 0 is 255, and band 1 tells by how much it was raised.
    starts = 255 - found[:, 1, 0].astype(int) - (n_frames - 1)
    assert (np.diff(starts) >= 0).all()
    slack = n_clip - n_frames
    assert 0 <= starts[0] <= starts[-1] <= slack
    assert abs(starts[0] + starts[-1] - slack) <= 1


@pytest.mark.parametrize("n_windows", [1, 3, 10])
def test_windows_are_where_serving_takes_them(n_windows: int) -> None:
    n_clip, n_frames = 250, 20
    found = cut_windows(counting(n_clip), n_frames, n_windows)
    starts = 255 - found[:, 1, 0].astype(int) - (n_frames - 1)
    served = [segment.start_s for segment in plan_segments(n_clip, n_frames, n_windows)]
    np.testing.assert_allclose(starts, served, atol=0.5)


def test_the_clip_is_not_changed() -> None:
    log_mel = counting(50)
    before = log_mel.copy()
    cut_windows(log_mel, 10, 3)[:] = 7
    np.testing.assert_array_equal(log_mel, before)
