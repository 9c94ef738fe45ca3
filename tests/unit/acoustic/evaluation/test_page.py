"""The page of an evaluation: its numbers, its sections and the page in the documents."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from jinja2 import UndefinedError

from acoustic.evaluation.page import write_page
from acoustic.evaluation.tables import interval, table
from tests.support.paths import ROOT
from tests.support.reports import is_shown, made_report, numbers_of, sections, tables

SECTIONS = {
    "reasons": "Reasons",
    "outliers": "Non-music audio",
    "parity": "Training features against serving features",
    "robustness": "Corrupted audio",
}
NOT_SHOWN = (".pooled.confusion", ".checkpoint.n_parameters", ".pooled.own_genres.n_genres")


def test_every_measured_number_is_on_the_page() -> None:
    page = write_page(made_report())
    missing = [
        (name, number)
        for name, number in numbers_of(made_report())
        if name not in NOT_SHOWN and not is_shown(number, page)
    ]
    assert missing == []
    assert "987.65 million parameters" in page


def test_every_row_of_a_table_has_as_many_cells_as_its_header() -> None:
    page = write_page(made_report())
    found = tables(page)
    assert len(found) == 15
    for rows in found:
        assert len(rows) >= 3, rows
        assert {len(row) for row in rows} == {len(rows[0])}, rows
        assert set(rows[1]) == {"---"}


def test_paragraphs_and_tables_are_apart_by_one_blank_line() -> None:
    page = write_page(made_report(), ["evaluation/auto.png"])
    assert "\n\n\n" not in page
    assert page.endswith(")\n")
    for before, line in zip(page.splitlines(), page.splitlines()[1:], strict=False):
        if line.startswith("#") or (line.startswith("|") and not before.startswith("|")):
            assert before == ""


def test_unseen_collections_stand_beside_seen_ones_and_are_said_to_lack_where_they_do() -> None:
    report = made_report()
    rows, genres = tables(sections(write_page(report))["Music from anywhere"])
    assert genres[3][:3] == [
        "Jazz",
        *(
            str(report["collections"]["unseen"]["per_genre"]["Jazz"][k])
            for k in ("n", "n_collections")
        ),
    ]
    sides = [report["collections"][name] for name in ("unseen", "seen")]
    assert rows[3] == ["accuracy", *(interval(part["accuracy"]) for part in sides)]
    report["collections"]["unseen"] = None
    text = sections(write_page(report))["Music from anywhere"]
    assert "nothing here says how the model does on" in text
    assert tables(text)[0][3] == ["accuracy", interval(sides[1]["accuracy"])]
    assert "None" not in text


@pytest.mark.parametrize("key", SECTIONS)
def test_what_was_not_measured_has_no_section(key: str) -> None:
    whole = sections(write_page(made_report()))
    report = made_report()
    del report[key]
    found = sections(write_page(report))
    assert whole.keys() - found.keys() == {SECTIONS[key]}
    assert all(text.strip() == whole[heading].strip() for heading, text in found.items())


def test_a_parity_that_could_not_be_measured_has_no_section() -> None:
    page = write_page({**made_report(), "parity": None})
    assert SECTIONS["parity"] not in sections(page)
    assert "None" not in page


def test_without_baselines_the_rows_of_the_model_stay() -> None:
    report = made_report()
    del report["baselines"]
    models = [
        row[2] for row in tables(sections(write_page(report))["Accuracy, by data set"])[0][2:]
    ]
    own = ["this model, 3 genres", "this model, its own 2 genres", "this model, families"]
    assert models == own * 3
    assert "majority" in sections(write_page(made_report()))["Accuracy, by data set"]


def test_values_that_do_not_exist_are_dashes() -> None:
    report = made_report()
    genre = report["sources"]["city_songs"]["per_genre"]["Jazz"]
    genre["precision"] = genre["recall"] = None
    report["pooled"]["selective"]["accepted_accuracy"] = None
    page = write_page(report)
    assert f"| Jazz | {genre['n']} | – | – |" in page
    pooled = tables(sections(page)["Detection of wrong answers"])[0][-1]
    assert (pooled[0], pooled[5]) == ("pooled", "–")
    assert "None" not in page


@pytest.mark.parametrize("key", ["nll", "n_tracks"])
def test_a_measure_that_is_missing_is_an_error_and_not_an_empty_cell(key: str) -> None:
    report = made_report()
    del report["pooled"][key]
    with pytest.raises(UndefinedError, match=key):
        write_page(report)


def test_reasons_have_one_row_and_a_column_per_effort() -> None:
    report = made_report()
    balanced, thorough = (interval(row["raised"]) for row in report["reasons"]["faults"])
    raised = interval(report["reasons"]["clean"][0]["raised"])
    faults, clean = tables(sections(write_page(report))["Reasons"])
    assert faults[0] == ["fault", "reason", "balanced", "thorough"]
    assert faults[2:] == [["hum", "NOISY", balanced, thorough]]
    # no clean track had the reason with the effort balanced
    assert clean[2:] == [["NOISY", "0", raised]]


def test_whether_the_calibration_is_cross_fitted_is_stated() -> None:
    assert "cross-fitted in folds" in write_page(made_report())
    page = write_page({**made_report(), "cross_fitted": False})
    assert "cross-fitted" not in page
    assert "calibration was fitted on other tracks" in page


def test_pictures_are_named_after_their_files() -> None:
    page = write_page(made_report(), ["evaluation/risk-coverage.png", "evaluation/auto.png"])
    assert sections(page)["Pictures"].split() == [
        "![risk-coverage](evaluation/risk-coverage.png)",
        "![auto](evaluation/auto.png)",
    ]
    assert "Pictures" not in sections(write_page(made_report()))


def test_the_page_in_the_documents_is_that_of_its_numbers() -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    report = json.loads((ROOT / "docs" / "evaluation.json").read_text(encoding="utf-8"))
    pictures = re.findall(r"!\[.*\]\((.*)\)", page)
    files = {f"evaluation/{path.name}" for path in (ROOT / "docs" / "evaluation").iterdir()}
    assert set(pictures) == files  # none of a former evaluation is left
    assert len(files) == 4 + ("robustness" in report)
    assert write_page(report, pictures) == page


def test_the_modules_import_without_jinja() -> None:
    code = (
        "import sys; sys.modules['jinja2'] = None\n"
        "import acoustic.evaluation.card, acoustic.evaluation.page"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)


def test_a_table_has_a_line_per_row() -> None:
    assert table(("a", "b"), [(1, "x"), (2.5, None)]) == (
        "| a | b |\n|---|---|\n| 1 | x |\n| 2.5 | None |"
    )
    assert interval({"value": 0.69, "low": 0.6449, "high": 0.735}) == "0.690 (0.645–0.735)"
    assert interval(None) == "–"
