"""Groups: artists and recordings that belong together, and their hashes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoustic.checkpoint_folder import TRAINING_FILE, CheckpointFolder
from acoustic.data.groups import (
    group_hash,
    group_key,
    joined,
    refuse_trained_on,
    trained_groups,
    without_repeats,
)
from acoustic.errors import ConfigError
from tests.support.clips import BEATS, clip
from tests.support.models import save_tiny_checkpoint
from tests.support.properties import quick
from tests.unit.acoustic.data.test_splits import row

pairs = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=25)


def merged_by_hand(rows: list[tuple[int, int]]) -> list[int]:
    """Smallest number of a row that is connected, by repeating until nothing changes."""
    found = list(range(len(rows)))
    changed = True
    while changed:
        changed = False
        for i, (group, recording) in enumerate(rows):
            for j, (other_group, other_recording) in enumerate(rows):
                is_linked = group == other_group or recording == other_recording
                if is_linked and found[j] < found[i]:
                    found[i], changed = found[j], True
    return found


@quick
@given(rows=pairs)
def test_rows_are_joined_where_a_chain_of_groups_and_recordings_links_them(
    rows: list[tuple[int, int]],
) -> None:
    found = joined([f"g{g}" for g, _ in rows], [f"r{r}" for _, r in rows])
    expected = np.array(merged_by_hand(rows))
    np.testing.assert_array_equal(found[:, None] == found, expected[:, None] == expected)


def test_a_name_is_a_key_by_itself_and_a_number_within_its_data_set() -> None:
    assert group_key(row(1, group="Nina", source="a")) == "Nina"
    assert group_key(row(1, group="7", source="a")) == "a:7"
    assert group_key(row(1, source="a")) == "a:1.wav"


def test_a_repeat_is_left_out_and_the_cuts_of_one_data_set_stay() -> None:
    made = [
        replace(clip(BEATS, seed), track=track, source=source)
        for seed, (track, source) in enumerate(
            [("x", "a"), ("x", "a"), ("x", "b"), ("", "b"), ("", "b"), ("y", "b"), ("y", "a")]
        )
    ]
    kept = without_repeats(made)
    assert kept == [made[0], made[1], made[3], made[4], made[5]]
    assert without_repeats(kept) == kept


@quick
@given(a=st.text(max_size=20), b=st.text(max_size=20))
def test_a_hash_is_short_and_follows_the_name(a: str, b: str) -> None:
    assert re.fullmatch("[0-9a-f]{8}", group_hash(a))
    assert (group_hash(a) == group_hash(b)) == (a == b)


def test_groups_of_the_training_are_refused_by_name(tmp_path: Path) -> None:
    folder = CheckpointFolder.open(save_tiny_checkpoint(tmp_path / "m"))
    assert trained_groups(folder) == ()
    refuse_trained_on(folder, [clip(BEATS, 0)])
    facts = {"train_groups": [group_hash("Nina")]}
    (folder.path / TRAINING_FILE).write_text(json.dumps(facts))
    assert trained_groups(folder) == (group_hash("Nina"),)
    with pytest.raises(ConfigError, match=r"1 of 2 valid recordings .*'Nina'.*--valid-ratio"):
        refuse_trained_on(folder, [clip(BEATS, 0), replace(clip(BEATS, 1), group="Nina")])
