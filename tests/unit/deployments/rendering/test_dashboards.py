"""Dashboards from a list of panels: one panel each, in a grid of two columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from acoustic.errors import ConfigError
from deployments.rendering.dashboards import PANELS_FILE, load_panels, render_dashboards

QUERIES = {"rate(acousticsense_requests[5m])": "{{code}}", "up": "all"}


def panel(title: str, **changes: Any) -> dict[str, Any]:
    return {"title": title, "unit": "ms", "queries": QUERIES, **changes}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    content = {
        "first": [panel(f"panel {i}") for i in range(5)],
        "second": [panel("Größe", unit="bytes", description="Less is better.")],
    }
    (tmp_path / PANELS_FILE).write_text(yaml.safe_dump(content, sort_keys=False))
    return tmp_path


def dashboards(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.name: json.loads(text) for path, text in render_dashboards(folder).items()}


def test_every_list_is_a_dashboard_with_its_own_id(folder: Path) -> None:
    found = dashboards(folder)
    assert list(found) == ["first.json", "second.json"]
    assert [each["uid"] for each in found.values()] == [
        "acousticsense-first", "acousticsense-second",
    ]  # fmt: skip
    assert all(path.parent == folder for path in render_dashboards(folder))


def test_panels_fill_the_grid_row_by_row(folder: Path) -> None:
    panels = dashboards(folder)["first.json"]["panels"]
    assert [each["title"] for each in panels] == [f"panel {i}" for i in range(5)]
    assert [each["id"] for each in panels] == [1, 2, 3, 4, 5]
    places = [(each["gridPos"]["x"], each["gridPos"]["y"]) for each in panels]
    assert places == [(0, 0), (12, 0), (0, 8), (12, 8), (0, 16)]
    for each in panels:
        assert each["gridPos"]["x"] + each["gridPos"]["w"] <= 24, "Grafana's grid"


def test_queries_keep_their_order_and_legends(folder: Path) -> None:
    (shown,) = dashboards(folder)["second.json"]["panels"]
    assert {each["expr"]: each["legendFormat"] for each in shown["targets"]} == QUERIES
    assert [each["refId"] for each in shown["targets"]] == ["A", "B"]
    assert shown["fieldConfig"]["defaults"]["unit"] == "bytes"
    assert (shown["title"], shown["description"]) == ("Größe", "Less is better.")


def test_every_query_uses_the_chosen_data_source(folder: Path) -> None:
    for board in dashboards(folder).values():
        (variable,) = board["templating"]["list"]
        expected = {"type": "prometheus", "uid": f"${{{variable['name']}}}"}
        for shown in board["panels"]:
            assert shown["datasource"] == expected
            assert all(target["datasource"] == expected for target in shown["targets"])


def test_the_same_list_gives_the_same_text(folder: Path) -> None:
    assert render_dashboards(folder) == render_dashboards(folder)
    assert all(text.endswith("}\n") for text in render_dashboards(folder).values())


def test_a_missing_list_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"panels\.yaml cannot be read"):
        load_panels(tmp_path)


def test_the_shipped_queries_have_legends_and_units() -> None:
    for name, panels in load_panels().items():
        assert len({each.title for each in panels}) == len(panels), name
        for each in panels:
            assert each.unit, each.title
            assert each.queries, each.title
            assert all(isinstance(legend, str) for legend in each.queries.values())
