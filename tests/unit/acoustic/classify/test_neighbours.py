"""Distance from the training data: its geometry, its file, and its calibration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.checkpoint import load_checkpoint
from acoustic.classify.classifier import Classifier
from acoustic.classify.engine import Engine
from acoustic.classify.engine_config import EngineConfig
from acoustic.classify.neighbours import (
    NEIGHBOURS_FILE,
    RANK,
    Neighbours,
    load_neighbours,
    save_neighbours,
)
from acoustic.errors import CheckpointError
from acoustic.example import example_wav
from acoustic.fitting.references import collect_references, find_references
from acoustic.fitting.tracks import evaluate_clips, open_engine
from acoustic.fitting.typical import find_confusions
from acoustic.preprocess.preprocessor import Preprocessor
from tests.support.clips import BEATS, NOTES, clip
from tests.support.models import save_tiny_checkpoint


def test_distances_equal_a_plain_search(rng: np.random.Generator) -> None:
    references, features = rng.normal(3, 1, (50, 8)), rng.normal(3, 1, (7, 8))
    found = Neighbours(references).distances(features.astype(np.float32))
    centre = references.mean(axis=0)
    for row, distance in zip(features - centre, found, strict=True):
        cosines = [
            row @ other / np.linalg.norm(row) / np.linalg.norm(other)
            for other in references - centre
        ]
        assert distance == pytest.approx(1 - sorted(cosines)[-RANK], abs=1e-5)


def test_one_stray_reference_makes_nothing_familiar(rng: np.random.Generator) -> None:
    music = rng.normal(0, 1, (40, 8)) * 0.1 + np.eye(8)[0]
    speech = -np.eye(8)[0]
    found = Neighbours(np.vstack([music, speech])).distances(speech[None].astype(np.float32))
    assert found[0] > 0.5


def test_a_window_alone_has_the_distance_that_it_has_in_a_batch(rng: np.random.Generator) -> None:
    neighbours = Neighbours(rng.normal(0, 1, (300, 192)))
    features = rng.normal(0, 1, (11, 192)).astype(np.float32)
    alone = np.concatenate([neighbours.distances(row[None]) for row in features])
    np.testing.assert_array_equal(neighbours.distances(features), alone)


def test_the_file_belongs_to_its_model(tmp_path: Path, rng: np.random.Generator) -> None:
    neighbours = Neighbours(rng.normal(0, 1, (20, 4)).astype(np.float16))
    folder = CheckpointFolder.open(save_tiny_checkpoint(tmp_path / "one"))
    assert load_neighbours(folder) is None
    save_neighbours(folder.path, neighbours, folder.digest)
    features = rng.normal(0, 1, (3, 4)).astype(np.float32)
    loaded = load_neighbours(folder)
    assert loaded is not None
    np.testing.assert_array_equal(loaded.distances(features), neighbours.distances(features))
    save_neighbours(folder.path, neighbours, "another")
    with pytest.raises(CheckpointError, match="run `acousticsense calibrate`"):
        load_neighbours(folder)
    (folder.path / NEIGHBOURS_FILE).write_bytes(b"no safetensors")
    with pytest.raises(CheckpointError, match="cannot be used"):
        load_neighbours(folder)


@pytest.fixture
def engine(tiny_checkpoint: Path) -> Engine:
    return open_engine(load_checkpoint(CheckpointFolder.open(tiny_checkpoint)), 1)


def test_the_engine_gives_the_features_that_its_logits_come_from(engine: Engine) -> None:
    windows = np.stack([clip(BEATS, seed).log_mel[:, :144] for seed in range(5)])
    found = engine.outputs(windows)
    np.testing.assert_array_equal(found.logits, engine.logits(windows))
    assert found.features.shape == (5, 32)
    assert found.music is None


def test_strange_clips_are_further_from_the_references_than_familiar_ones(engine: Engine) -> None:
    familiar = collect_references(engine, [clip(BEATS, seed) for seed in range(20)])
    evaluated = evaluate_clips(
        engine, [clip(BEATS, 99, "valid"), clip(NOTES, 99, "valid")], familiar
    )
    near, far = evaluated.distances[10]
    assert near < far
    assert evaluate_clips(engine, [clip(BEATS, 99, "valid")]).distances == {}


def test_too_few_train_clips_leave_the_references_that_there_are(
    tmp_path: Path, engine: Engine
) -> None:
    folder = CheckpointFolder.open(save_tiny_checkpoint(tmp_path / "one"))
    assert find_references(folder, engine, [clip(BEATS, 0)]) is None
    clips = [clip(BEATS, seed) for seed in range(6)]
    found = find_references(folder, engine, clips)
    assert found is not None
    save_neighbours(folder.path, found, folder.digest)
    kept = find_references(folder, engine, [clip(NOTES, 0)])
    assert kept is not None
    np.testing.assert_array_equal(kept.references, found.references)


def test_the_classifier_tells_the_distance_where_there_are_references(tmp_path: Path) -> None:
    folder = save_tiny_checkpoint(tmp_path / "model")
    features = Preprocessor.from_folder(CheckpointFolder.open(folder)).process(
        example_wav(30), "balanced"
    )
    config = EngineConfig(accelerator="cpu", precision="fp32")
    (without,) = Classifier.from_folder(CheckpointFolder.open(folder), config).classify([features])
    assert without.distance is None
    checkpoint = load_checkpoint(CheckpointFolder.open(folder))
    references = collect_references(
        open_engine(checkpoint, 1), [clip(BEATS, seed) for seed in range(10)]
    )
    save_neighbours(folder, references, checkpoint.manifest.digest)
    classifier = Classifier.from_folder(CheckpointFolder.open(folder), config)
    (one,) = classifier.classify([features])
    other = replace(features, log_mel=features.log_mel[:1])
    together = classifier.classify([other, features])
    assert one.distance is not None
    assert one.distance == together[1].distance
    assert "neighbours" in one.timings_ms


def test_confusions_are_shares_of_an_answer_and_need_three_cases() -> None:
    predicted = np.array([0] * 10 + [1] * 5)
    labels = np.array([0] * 5 + [1] * 3 + [2] * 2 + [1] * 5)
    assert find_confusions(predicted, labels, ["a", "b", "c"]) == {"a": {"b": 0.3}}
