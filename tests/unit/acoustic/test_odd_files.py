"""Every odd file of the table: all of its audio counts, or it is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from acoustic.errors import InputError
from acoustic.pipeline import Pipeline
from acoustic.prediction import Prediction
from acoustic.preprocess.ranged_file import RangedFile, RangesUnavailableError
from acoustic.request import Effort, RequestOptions
from tests.support.odd_files import CANCEL, JOINED, ODD_FILES, OddFile


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint: Path) -> Pipeline:
    return Pipeline.from_folder(tiny_checkpoint)


def check(odd: OddFile, outcome: Prediction | InputError) -> None:
    if isinstance(outcome, InputError):
        assert outcome.code == odd.code, outcome.message
        assert odd.says in outcome.message
        return
    assert odd.duration_s is not None, "it must be refused"
    assert outcome.duration_s == pytest.approx(odd.duration_s, rel=0.02)
    codes = {reason.code for reason in outcome.reasons} & {JOINED, CANCEL}
    assert codes == ({odd.reason} if odd.reason else set())


@pytest.mark.parametrize("name", ODD_FILES)
def test_all_of_it_counts_or_it_is_refused_by_name(pipeline: Pipeline, name: str) -> None:
    odd = ODD_FILES[name]
    data = odd.make()
    efforts: tuple[Effort, ...] = ("fast", "balanced", "auto")
    for effort in efforts:
        try:
            check(odd, pipeline.classify(data, RequestOptions(effort=effort)))
        except InputError as error:
            check(odd, error)


@pytest.mark.parametrize("name", ODD_FILES)
def test_ranges_give_the_same_or_ask_for_the_whole_file(pipeline: Pipeline, name: str) -> None:
    data = ODD_FILES[name].make()
    process = pipeline.preprocessor.process_ranged
    try:
        found = process(RangedFile(lambda a, b: data[a:b], len(data)), "balanced")
    except (RangesUnavailableError, InputError):
        return  # the whole file is read, see above
    whole = pipeline.preprocessor.process(data, "balanced")
    assert found.log_mel.tobytes() == whole.log_mel.tobytes()
    assert found.facts.info == whole.facts.info
