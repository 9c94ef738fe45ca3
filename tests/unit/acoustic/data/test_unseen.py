"""Collections that a model was not trained on: which they are, and what is said about them."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from acoustic.checkpoint_folder import TRAINING_FILE, CheckpointFolder
from acoustic.data.groups import group_hash
from acoustic.data.unseen import report_unseen, trained_collections, unseen
from tests.support.models import save_tiny_checkpoint


def test_a_collection_is_unseen_where_its_hash_is_not_among_those_trained_on() -> None:
    trained = [group_hash("a"), group_hash("b")]
    assert unseen(["a", "c", "b", "c"], trained).tolist() == [False, True, False, True]
    assert unseen(["a", "c"], []).tolist() == [False, False]  # not known: nothing is promised


def test_the_hashes_are_those_of_training_json(tmp_path: Path) -> None:
    folder = CheckpointFolder.open(save_tiny_checkpoint(tmp_path / "m"))
    assert trained_collections(folder) == ()
    (folder.path / TRAINING_FILE).write_text(json.dumps({"train_groups": ["1"]}))
    assert trained_collections(folder) == ()  # as releases before wrote it
    (folder.path / TRAINING_FILE).write_text(json.dumps({"train_collections": ["12"]}))
    assert trained_collections(folder) == ("12",)


def test_it_is_said_in_words_and_warned_of_where_all_are_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trained = [group_hash("a")]
    with caplog.at_level(logging.WARNING):
        text = report_unseen(["a", "b", "b", "c"], trained)
    assert text == "3 of 4 valid recordings are of 2 collections that were not trained on."
    assert not caplog.records
    text = report_unseen(["a", "a"], trained)
    assert text.startswith("All 2 valid recordings are of collections that were trained on too.")
    assert "on music from elsewhere it may be far lower" in text
    assert caplog.messages == [text]
