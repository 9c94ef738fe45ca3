"""Figures show the numbers of the report that they are drawn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import pytest

from acoustic.evaluation.pictures import (
    _auto,
    _confusion,
    _corruptions,
    _reliability,
    _risk_coverage,
    draw_pictures,
)

matplotlib.use("Agg")
from matplotlib import pyplot


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.05}


BINS = [{"confidence": 0.4, "accuracy": 0.5, "n": 3}, {"confidence": 0.9, "accuracy": 0.8, "n": 3}]
POOLED = {
    "confusion": [[3, 1], [0, 2]],
    "calibration": {"bins": BINS, "adaptive_ece": 0.1, "null_p95": 0.12},
    "selective": {"risk_coverage": [0.0, 0.0, 0.25, 0.5]},
}
REPORT: dict[str, Any] = {
    "checkpoint": {"labels": ["Jazz", "Rock"]},
    "pooled": POOLED,
    "uncalibrated": {"bins": BINS, "adaptive_ece": 0.2},
    "sources": {"a": POOLED},
    "collections": {"summary": "", "unseen": POOLED, "seen": None},
    "auto": [
        {"margin": m, "windows": w, "accuracy": interval(0.5)} for m, w in ((0.0, 3), (1.0, 10))
    ],
    "robustness": {
        "rows": [
            {"kind": "clean", "strength": "", "accuracy": interval(0.9)},
            {"kind": "gain", "strength": "-20 dB", "accuracy": interval(0.7)},
            {"kind": "gain", "strength": "-40 dB", "accuracy": interval(0.3)},
        ]
    },
}


def axes_of(draw: Any) -> Any:
    figure = draw(pyplot, REPORT)
    pyplot.close(figure)
    return figure.axes[0]


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_the_confusion_has_every_count_at_its_place() -> None:
    axes = axes_of(_confusion)
    found = {text.get_position(): text.get_text() for text in axes.texts}
    assert found == {(0, 0): "3", (1, 0): "1", (1, 1): "2"}  # x is the answer, y the truth
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["Jazz", "Rock"]
    assert axes.images[0].get_array().tolist() == [[0.75, 0.25], [0.0, 1.0]]


def test_the_reliability_has_a_curve_for_each_side_that_has_tracks() -> None:
    lines = axes_of(_reliability).lines
    assert [line.get_label() for line in lines] == [
        "perfect", "collections unseen:\nadaptive ECE 0.100 (null band 0.120)",
    ]  # fmt: skip
    assert (list(lines[1].get_xdata()), list(lines[1].get_ydata())) == ([0.4, 0.9], [0.5, 0.8])


def test_the_curve_over_coverage_is_one_minus_the_risk() -> None:
    lines = axes_of(_risk_coverage).lines
    assert [line.get_label() for line in lines] == ["a", "pooled"]
    assert list(lines[1].get_xdata()) == [0.25, 0.5, 0.75, 1.0]
    assert list(lines[1].get_ydata()) == [1.0, 1.0, 0.75, 0.5]


def test_auto_has_its_margins_beside_the_points_and_its_intervals() -> None:
    axes = axes_of(_auto)
    assert texts(axes) == ["0", "1"]
    (bars,) = axes.containers
    segments = bars[2][0].get_segments()
    assert segments[0][:, 1].tolist() == pytest.approx([0.4, 0.55])


def test_every_corruption_is_in_the_row_of_its_kind() -> None:
    axes = axes_of(_corruptions)
    assert texts(axes) == ["0.90", "-20 dB\n0.70", "-40 dB\n0.30"]
    assert [text.get_position() for text in axes.texts] == [(0, 0), (0, 1), (1, 1)]


def test_files_are_named_in_the_order_of_the_page(tmp_path: Path) -> None:
    without = {key: value for key, value in REPORT.items() if key != "robustness"}
    names = draw_pictures(without, tmp_path / "new")
    assert names == ["confusion.png", "reliability.png", "risk-coverage.png", "auto.png"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(names)
    assert pyplot.get_fignums() == []
