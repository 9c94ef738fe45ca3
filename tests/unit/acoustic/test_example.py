"""The example: a piece of 120 beats per minute, the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.signal import find_peaks

from acoustic.example import example_wav, example_waveform
from acoustic.pipeline import Pipeline
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from tests.support.decoding import decode_whole


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100])
def test_the_length_is_the_wanted_one_and_the_level_is_bounded(rate: int) -> None:
    samples = example_waveform(3.2, rate)
    assert samples.dtype == np.float32
    assert samples.size == round(3.2 * rate)
    assert 0.3 < np.abs(samples).max() <= 0.5


def test_the_first_bar_is_a_minor_and_the_second_f_major() -> None:
    for number, hz in ((0, (261.63, 329.63, 440.0)), (1, (261.63, 349.23, 440.0))):
        bar = example_waveform(8.0)[2 * number * 22_050 : 2 * (number + 1) * 22_050]
        spectrum = np.abs(np.fft.rfft(bar * np.hanning(bar.size)))
        peaks = find_peaks(spectrum, height=spectrum.max() * 0.02)[0] / 2.0
        for each in hz:
            assert np.abs(peaks - each).min() <= 1.0, (number, each)


def test_there_are_120_beats_per_minute() -> None:
    prepared = Preprocessor(PreprocessConfig()).process(example_wav(20.0), "balanced")
    assert prepared.facts.descriptors.tempo_bpm == pytest.approx(120, abs=0.5)
    assert prepared.facts.descriptors.tempo_confidence > 0.8


def test_the_default_model_takes_it_for_music(default_checkpoint: Path) -> None:
    pipeline = Pipeline.from_folder(default_checkpoint)
    for duration_s in (8.0, 10.0, 30.0):
        prediction = pipeline.classify(example_wav(duration_s))
        assert "NOT_MUSIC" not in {reason.code for reason in prediction.reasons}


def test_a_piece_shorter_than_a_beat_is_as_long_as_it_should_be() -> None:
    assert example_waveform(0.1).size == round(0.1 * 22_050)


def test_the_file_holds_the_waveform() -> None:
    decoded = decode_whole(example_wav(2.0), 22_050)
    np.testing.assert_allclose(decoded, example_waveform(2.0), atol=2**-15)
    assert example_wav(2.0) == example_wav(2.0)
