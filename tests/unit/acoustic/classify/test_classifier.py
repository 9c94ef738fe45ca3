"""Stage 2 (classification) as a whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.classifier import Classifier
from acoustic.classify.engine import WindowOutputs
from acoustic.example import example_wav
from acoustic.preprocess.preprocessor import PreprocessConfig, Preprocessor
from acoustic.request import Effort
from acoustic.types import TrackFeatures
from tests.support.sounds import encode, noise, sweep


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint: Path) -> Classifier:
    return Classifier.from_folder(CheckpointFolder.open(tiny_checkpoint))


@pytest.fixture(scope="module")
def tracks() -> list[TrackFeatures]:
    preprocessor = Preprocessor(PreprocessConfig())
    efforts: list[Effort] = ["fast", "thorough", "balanced", "balanced"]
    sounds = [sweep(60.0), noise(60.0), sweep(30.0), noise(25.0, seed=1)]
    return [
        preprocessor.process(encode(sound, 22_050), effort)
        for sound, effort in zip(sounds, efforts, strict=True)
    ]


def test_every_track_gets_its_own_rows(classifier: Classifier, tracks: list[TrackFeatures]) -> None:
    results = classifier.classify(tracks)
    assert [len(result.logits) for result in results] == [1, 10, 3, 3]
    for track, result in zip(tracks, results, strict=True):
        assert result.facts == track.facts
        assert result.logits.dtype == np.float32
        np.testing.assert_array_equal(result.logits, classifier.classify([track])[0].logits)


def test_the_order_of_a_batch_does_not_matter(
    classifier: Classifier, tracks: list[TrackFeatures]
) -> None:
    forward = classifier.classify(tracks)
    backward = classifier.classify(tracks[::-1])[::-1]
    for one, other in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)


def test_it_says_which_model_answered(classifier: Classifier, tracks: list[TrackFeatures]) -> None:
    info = classifier.classify(tracks[:1])[0].model
    assert (info.name, info.device) == ("tiny", classifier.engine.plan.device)
    assert info.digest == classifier.manifest.digest


def test_logits_that_are_no_numbers_are_no_answer(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = Classifier.from_folder(CheckpointFolder.open(tiny_checkpoint))
    features = Preprocessor.from_folder(CheckpointFolder.open(tiny_checkpoint)).process(
        example_wav(), "fast"
    )

    def broken(windows: np.ndarray) -> WindowOutputs:
        nothing = np.full((len(windows), 16), np.nan, np.float32)
        return WindowOutputs(logits=nothing, features=np.zeros((len(windows), 32), np.float32))

    monkeypatch.setattr(classifier.engine, "outputs", broken)
    with pytest.raises(ValueError, match="not finite"):
        classifier.classify([features])
