"""The page of the re-tested claims, and the page in the documents."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from acoustic.evaluation.tables import interval
from benchmarks.claims.page import write_claims
from tests.support.paths import ROOT
from tests.support.reports import sections, tables


@pytest.fixture
def report() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / "docs" / "claims.json").read_text("utf-8"))
    return content


def test_the_page_in_the_documents_is_that_of_its_numbers(report: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[.*\]\((.*)\)", page)
    assert len(pictures) == 2
    assert write_claims(report, pictures) == page


def test_the_guide_is_defined_before_its_claims(report: dict[str, Any]) -> None:
    begin = sections(write_claims(report))[""]
    assert '"The guide" is the article from which this project grew.' in begin


def test_every_claim_has_its_row(report: dict[str, Any]) -> None:
    (rows,) = tables(sections(write_claims(report))["Verdicts"])
    assert len(rows) - 2 == len(report["claims"])
    for row, claim in zip(rows[2:], report["claims"], strict=True):
        effect = claim["effect"]
        assert row[:3] == [claim["technique"], claim["setting"], claim["unit"]]
        assert row[4] == f"{effect['value']:+.3f} ({effect['low']:+.3f} to {effect['high']:+.3f})"
        if claim["claimed"] is None:
            assert row[3::2] == ["–", claim["verdict"]]
        else:
            assert row[3::2] == [f"{claim['claimed']:+.3f}", f"**{claim['verdict']}**"]


def test_noise_calibration_and_review_have_all_their_numbers(report: dict[str, Any]) -> None:
    found = sections(write_claims(report))
    (noise,) = tables(found["Accuracy in noise"])
    assert noise[0] == ["model", "enhancement", "clean", "noise at 10 dB", "noise at 0 dB"]
    assert noise[2:] == [
        [row["model"], row["variant"], *(interval(row[key]) for key in ("clean", "10 dB", "0 dB"))]
        for row in report["noise"]
    ]
    (calibrations,) = tables(found["Calibration"])
    assert calibrations[2:] == [
        [row["calibration"], str(row["adaptive_ece"]), interval(row["nll"])]
        for row in report["calibrations"]
    ]
    (review,) = tables(found["Review policy"])
    assert review[2:] == [
        [name, f"{point['reviewed']:.2f}", interval(point["accuracy"])]
        for name, point in report["review"]["points"].items()
    ]
