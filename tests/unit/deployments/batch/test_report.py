"""The report of a batch job: what it counts in the parts, and its page."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError

from acoustic.request import RequestOptions
from deployments.batch.job_options import Format, JobOptions
from deployments.batch.parts import write_part
from deployments.batch.plan import Plan
from deployments.batch.progress import Totals
from deployments.batch.report import format_duration, to_html, to_text, write_report
from deployments.batch.schema import row_schema
from tests.support.paths import ROOT

REPORT: dict[str, Any] = {
    "acousticsense": "0.2.0",
    "date": "2026-01-02T03:04:05+00:00",
    "effort": "fast",
    "n_rows": 12_345,
    "n_errors": 678,
    "review_share": 0.2345,
    "genres": {"R&B": 11_001, "Jazz": 666},
    "errors": {"audio_too_short": 670, "unsupported_audio": 8},
    "run": {
        "n_listed": 54_321,
        "n_finished_before": 2_468,
        "n_files": 9_877,
        "n_errors": 97,
        "elapsed_s": 4_000.2,
        "files_per_s": 2.47,
        "steady_files_per_s": 3.21,
        "read_bytes": 12_300_000,
        "size_bytes": 5_600_000_000,
        "stage_s": {"preprocess": 7_654.32, "classify": 43.21, "write": 1.5},
        "slowest_stage": "preprocess",
    },
}


def facts(page: str) -> dict[str, list[str]]:
    """Name → values in the tables of the page."""
    found: dict[str, list[str]] = {}
    for name, value in re.findall(r"<tr><th>(.*)</th><td>(.*)</td></tr>", page):
        found.setdefault(name, []).append(value)
    return found


def bars(page: str) -> list[dict[str, tuple[float, str]]]:
    """For each chart of the page: name → width of its bar and the number beside it."""
    charts = []
    for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        names, widths, values = [], [], []
        for element in ET.fromstring(svg):
            if element.tag == "rect":
                widths.append(float(element.attrib["width"]))
            elif "text-anchor" in element.attrib:
                names.append(element.text or "")
            else:
                values.append(element.text or "")
        charts.append(dict(zip(names, zip(widths, values, strict=True), strict=True)))
    return charts


def test_every_number_of_the_report_is_on_the_page() -> None:
    page = to_html(REPORT)
    assert "2026-01-02 03:04:05 UTC, effort fast" in page
    assert facts(page) == {
        "rows": ["12,345"],
        "errors": ["678", "97"],
        "answers for review": ["23.4%"],
        "files listed": ["54,321"],
        "files finished before": ["2,468"],
        "files processed": ["9,877"],
        "time": ["1 h 6 min"],
        "files per second": ["2.47"],
        "files per second, without the start": ["3.21"],
        "data read": ["12.3 MB"],
        "size of the files": ["5.6 GB"],
        "slowest stage": ["preprocess"],
    }
    beside = [{name: value for name, (_, value) in chart.items()} for chart in bars(page)]
    assert beside == [
        {"R&B": "11,001", "Jazz": "666"},
        {"audio_too_short": "670", "unsupported_audio": "8"},
        {"preprocess": "7,654.32", "classify": "43.21", "write": "1.5"},
    ]


def test_bars_are_as_long_as_their_share_of_the_longest() -> None:
    genres, _, _ = bars(to_html({**REPORT, "genres": {"a": 400, "b": 100, "c": 0}}))
    longest = genres["a"][0]
    assert genres["b"][0] == pytest.approx(longest / 4, abs=0.1)
    assert genres["c"][0] == 0


def test_text_of_files_cannot_become_markup() -> None:
    attack = '"><script>alert(1)</script>'
    report = copy.deepcopy(REPORT)
    report |= {"genres": {attack: 2}, "errors": {attack: 1}, "effort": attack, "date": attack}
    report["run"] |= {"slowest_stage": attack, "stage_s": {attack: 1.0}}
    page = to_html(report)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 6
    assert [list(chart) for chart in bars(page)] == [[attack]] * 3


def test_a_job_without_errors_answers_or_work_says_none() -> None:
    report = copy.deepcopy(REPORT)
    report |= {"genres": {}, "errors": {}, "n_errors": 0, "review_share": 0.0}
    report["run"] |= {"stage_s": {}, "slowest_stage": None, "steady_files_per_s": None}
    page = to_html(report)
    assert page.count("<p>none</p>") == 3
    assert "<svg" not in page
    assert "None" not in page
    assert facts(page)["slowest stage"] == ["–"]
    assert "files per second, without the start" not in facts(page)


def test_stages_that_took_no_time_have_empty_bars() -> None:
    report = copy.deepcopy(REPORT)
    report["run"]["stage_s"] = {"preprocess": 0.0, "write": 0.0}
    assert bars(to_html(report))[2] == {"preprocess": (0.0, "0.0"), "write": (0.0, "0.0")}


def test_a_number_that_is_missing_is_an_error_and_not_an_empty_cell() -> None:
    report = {name: value for name, value in REPORT.items() if name != "genres"}
    with pytest.raises(UndefinedError, match="genres"):
        to_html(report)


def test_the_page_loads_nothing() -> None:
    page = to_html(REPORT)
    assert page.startswith("<!doctype html>\n")
    assert not re.search(r"(src|href|url)\s*[=(]", page)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (65.4, "1 min 5 s"),
        (3_599.6, "1 h 0 min"),
        (7_859.0, "2 h 10 min"),
        (3_600_000.0, "1,000 h 0 min"),
    ],
)
def test_durations_have_their_two_largest_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize("format", ["parquet", "jsonl", "csv"])
def test_the_report_counts_all_parts_of_the_output(tmp_path: Path, format: Format) -> None:
    request = RequestOptions(effort="fast")
    options = JobOptions(sources=("a",), out=str(tmp_path), format=format, request=request)
    for n_part in range(2):
        rows = [answer(n_part, i, ("Jazz", "Rock")[i // 3], i == 0) for i in range(4)]
        rows.append({"id": f"{n_part}-e", "size_bytes": 1, "error_code": "audio_too_short"})
        write_part(rows, row_schema([]), options)
    totals = Totals(n_files=5, n_errors=1, read_bytes=7, size_bytes=9)
    totals.stage_s = Counter({"preprocess": 2.0, "classify": 3.0})
    plan = Plan(files=[], n_listed=10, n_finished=5, retried={}, extras=[])
    report = write_report(options, plan, totals)
    assert json.loads((tmp_path / "_report.json").read_text("utf-8")) == report
    assert (tmp_path / "_report.html").read_text("utf-8") == to_html(report)
    assert (report["n_rows"], report["n_errors"], report["review_share"]) == (10, 2, 0.25)
    assert report["genres"] == {"Jazz": 6, "Rock": 2}
    assert report["errors"] == {"audio_too_short": 2}
    assert report["effort"] == "fast"
    assert report["run"]["slowest_stage"] == "classify"
    assert "10 rows, 2 errors, 25% of the answers for review" in to_text(report)


def answer(n_part: int, i: int, genre: str, needs_review: bool) -> dict[str, Any]:
    return {
        "id": f"{n_part}-{i}", "size_bytes": 1, "top_genre": genre, "needs_review": needs_review,
        "error_code": "",
    }  # fmt: skip


def test_the_module_imports_without_jinja() -> None:
    code = "import sys; sys.modules['jinja2'] = None\nimport deployments.batch.report"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)
