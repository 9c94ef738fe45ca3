"""The example sound: 120 beats per minute in A major, the same every time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import find_peaks

from acoustic.example import BEAT_S, CHORD_HZ, example_wav, example_waveform
from tests.support.decoding import decode_whole


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100])
def test_the_length_is_the_wanted_one_and_the_level_is_bounded(rate: int) -> None:
    samples = example_waveform(3.2, rate)
    assert samples.dtype == np.float32
    assert samples.size == round(3.2 * rate)
    assert 0.3 < np.abs(samples).max() <= 0.5


def test_the_spectrum_has_the_three_notes_and_the_bass() -> None:
    spectrum = np.abs(np.fft.rfft(example_waveform(8.0) * np.hanning(8 * 22_050)))
    strongest = find_peaks(spectrum, height=spectrum.max() * 0.1, distance=40)[0] / 8.0
    for hz in (CHORD_HZ[0] / 4, *CHORD_HZ):
        assert np.abs(strongest - hz).min() < 0.5


def test_every_beat_is_louder_than_what_came_before_it() -> None:
    n_beat = round(BEAT_S * 22_050)
    beats = example_waveform(8.0)[: 16 * n_beat].reshape(16, n_beat)
    start, end = (np.sqrt((part**2).mean(axis=1)) for part in (beats[:, :2000], beats[:, -2000:]))
    assert (start > 1.4 * end).all()


def test_the_file_holds_the_waveform() -> None:
    decoded = decode_whole(example_wav(2.0), 22_050)
    np.testing.assert_allclose(decoded, example_waveform(2.0), atol=2**-15)
    assert example_wav(2.0) == example_wav(2.0)
