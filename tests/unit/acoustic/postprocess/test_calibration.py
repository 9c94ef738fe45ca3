"""calibration.json: both formats give the same numbers; others are refused with advice."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import softmax as reference_softmax

from acoustic.checkpoint_folder import CALIBRATION_FILE, CheckpointFolder
from acoustic.errors import CheckpointError
from acoustic.postprocess.calibration import (
    Calibration,
    WindowCalibration,
    calibrated_probabilities,
    load_calibration,
    save_calibration,
    softmax,
)
from tests.support.models import save_tiny_checkpoint
from tests.support.properties import quick

FORMAT_1: dict[str, Any] = {
    "temperatures": {"1": 0.8, "3": 0.7},
    "dataset": "valid clips of a, b",
    "n_tracks": 364,
    "date": "2026-11-26",
    "nll": {"1": 1.0, "3": 0.9},
    "ece": {"1": 0.04},
    "floor": 0.02,
    "quantiles": {
        "lac": {"1": {"0.90": 0.96}, "3": {"0.90": 0.95}},
        "aps": {"3": {"0.90": 0.99}},
    },
    "review_accuracy": 0.8,
    "review_thresholds": {"1": 0.6, "3": 0.55},
    "confidence_deciles": {"3": [i / 10 for i in range(1, 10)]},
    "scales": {"energy": {"1": [-4.0, -2.0], "3": [-5, -3]}, "neighbours": {"3": [0.2, 0.4]}},
    "limits": {"distance": {"3": 0.97}},
    "confusions": {"Jazz": {"Blues": 0.3}},
    "groups": ["ab12cd34"],
    "metric": "nll",
}


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder.open(save_tiny_checkpoint(tmp_path / "m"))


def write(folder: CheckpointFolder, content: dict[str, Any]) -> CheckpointFolder:
    text = json.dumps({"checkpoint_digest": folder.digest, **content})
    (folder.path / CALIBRATION_FILE).write_text(text)
    return folder


def test_format_1_is_turned_around_without_losing_a_number(folder: CheckpointFolder) -> None:
    found = load_calibration(write(folder, FORMAT_1))
    assert found.windows[1] == WindowCalibration(
        temperature=0.8,
        nll=1.0,
        ece=0.04,
        quantiles={"lac": {"0.90": 0.96}},
        review_threshold=0.6,
        scales={"energy": (-4.0, -2.0)},
    )
    assert found.windows[3] == WindowCalibration(
        temperature=0.7,
        nll=0.9,
        quantiles={"lac": {"0.90": 0.95}, "aps": {"0.90": 0.99}},
        review_threshold=0.55,
        scales={"energy": (-5.0, -3.0), "neighbours": (0.2, 0.4)},
        limits={"distance": 0.97},
        confidence_deciles=tuple(i / 10 for i in range(1, 10)),
    )
    same = ("dataset", "n_tracks", "date", "floor", "review_accuracy", "confusions", "groups")
    for name in same:
        assert getattr(found, name) == FORMAT_1[name]


def written_again(folder: CheckpointFolder, calibration: Calibration) -> Calibration:
    save_calibration(folder.path, replace(calibration, checkpoint_digest=folder.digest))
    stored = json.loads((folder.path / CALIBRATION_FILE).read_text())
    assert stored["format"] == 2
    return replace(load_calibration(folder), checkpoint_digest=calibration.checkpoint_digest)


def test_the_shipped_file_has_the_same_numbers_in_format_2(
    default_checkpoint: Path, folder: CheckpointFolder
) -> None:
    shipped = CheckpointFolder.open(default_checkpoint)
    stored = shipped.read_json(CALIBRATION_FILE)
    found = load_calibration(shipped)
    assert written_again(folder, found) == found
    for n, fitted in found.windows.items():
        if "temperatures" in stored:  # format 1, as release 0.2.0 wrote it
            assert fitted.temperature == stored["temperatures"][str(n)]
            assert fitted.quantile("lac", 0.9) == stored["quantiles"]["lac"][str(n)]["0.90"]
            assert fitted.review_threshold == stored["review_thresholds"][str(n)]
            assert fitted.limits["distance"] == stored["limits"]["distance"][str(n)]
            assert list(fitted.scales["energy"]) == stored["scales"]["energy"][str(n)]


numbers = st.floats(0.001, 100)
names = st.sampled_from(["lac", "aps", "energy", "neighbours", "distance"])
fitted_windows = st.builds(
    WindowCalibration,
    temperature=numbers,
    nll=st.none() | numbers,
    quantiles=st.dictionaries(names, st.dictionaries(st.just("0.90"), numbers)),
    review_threshold=st.none() | numbers,
    scales=st.dictionaries(names, st.tuples(numbers, numbers)),
    limits=st.dictionaries(names, numbers),
    confidence_deciles=st.lists(numbers, max_size=9).map(tuple),
)


@quick
@given(windows=st.dictionaries(st.integers(1, 99), fitted_windows, min_size=1, max_size=3))
def test_format_2_keeps_every_number(
    tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, windows: dict[int, Any]
) -> None:
    opened = CheckpointFolder.open(tiny_checkpoint)
    elsewhere = CheckpointFolder(tmp_path_factory.getbasetemp(), opened.manifest)
    made = Calibration(
        windows=windows, checkpoint_digest="d", dataset="é", n_tracks=3, date="2026-01-01"
    )
    assert written_again(elsewhere, made) == made


@pytest.mark.parametrize("version", [0, 3, "2", None])
def test_another_format_is_refused_with_advice(folder: CheckpointFolder, version: object) -> None:
    with pytest.raises(CheckpointError, match=rf"has format {version}, this release reads up to 2"):
        load_calibration(write(folder, {**FORMAT_1, "format": version}))


@pytest.mark.parametrize(
    "changes",
    [
        {"temperatures": {"1": -1.0}},
        {"temperatures": {"one": 1.0}},
        {"temperatures": {}},
        {"temperatures": [1.0]},
        {"nll": {"99": 1.0}},
        {"floor": 1.0},
        {"surprise": 1},
        {"scales": {"energy": {"1": [1.0]}}},
        {"quantiles": {"lac": [0.9]}},
        {"format": 2},
        {"format": 2, "windows": {"1": {}}},
        {"format": 2, "windows": {"1": None}},
    ],
)
def test_a_damaged_table_is_a_checkpoint_error(
    folder: CheckpointFolder, changes: dict[str, Any]
) -> None:
    with pytest.raises(CheckpointError, match=r"calibration\.json cannot be used"):
        load_calibration(write(folder, {**FORMAT_1, **changes}))


def test_a_missing_table_leaves_its_numbers_unknown(folder: CheckpointFolder) -> None:
    plain = {n: FORMAT_1[n] for n in ("temperatures", "dataset", "n_tracks", "date")}
    found = load_calibration(write(folder, plain)).at(1)
    assert found == WindowCalibration(temperature=0.8)
    assert found.quantile("lac", 0.9) is None


@quick
@given(n=st.integers(1, 1000), known=st.sets(st.integers(1, 100), min_size=1, max_size=4))
def test_the_fitted_count_is_the_closest_by_ratio(n: int, known: set[int]) -> None:
    windows = {k: WindowCalibration(temperature=float(k)) for k in known}
    table = Calibration(windows=windows, checkpoint_digest="", dataset="", n_tracks=1, date="")
    chosen = table.at(n).temperature
    ratios = [max(n / k, k / n) for k in known]
    assert max(n / chosen, chosen / n) == pytest.approx(min(ratios))


@quick
@given(
    logits=hnp.arrays(np.float32, (3, 5), elements=st.floats(-1e4, 1e4, width=32)),
    temperature=st.floats(0.1, 10),
    floor=st.floats(0, 0.9),
)
def test_probabilities_are_those_of_scipy(
    logits: npt.NDArray[np.float32], temperature: float, floor: float
) -> None:
    np.testing.assert_allclose(softmax(logits), reference_softmax(logits.astype(float), axis=1))
    scaled = reference_softmax(logits.astype(float) / temperature, axis=1)
    found = calibrated_probabilities(logits, temperature, floor)
    np.testing.assert_allclose(found, (1 - floor) * scaled + floor / 5, atol=1e-12)
    assert found.min() >= floor / 5 - 1e-12
    assert math.isclose(found.sum(), 3, rel_tol=1e-9)


@given(
    logits=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 10), st.integers(2, 16)),
        elements=st.floats(-50, 50, width=32),
    ),
    temperature=st.floats(0.1, 10),
)
def test_temperature_keeps_the_ranking(logits: npt.NDArray[np.float32], temperature: float) -> None:
    probabilities = calibrated_probabilities(logits, temperature)
    best = np.take_along_axis(probabilities, logits.argmax(axis=1)[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(best, probabilities.max(axis=1))


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        WindowCalibration(temperature=0.0)
