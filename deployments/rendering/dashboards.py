"""Renders Grafana dashboards from a list of panels.

`configs/grafana/panels.yaml` lists titles, queries and units. Grafana's own JSON needs about a
hundred lines per panel; it is generated from the list, and a test checks that both agree.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.built_in import GRAFANA, built_in
from deployments.strict import read_yaml

FOLDER = built_in(GRAFANA)
PANELS_FILE = "panels.yaml"
COLUMNS, WIDTH, HEIGHT = 2, 12, 8
SCHEMA_VERSION = 39
"""Dashboard schema of Grafana 10 and 11; later versions migrate it on load."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One panel of a dashboard.

    Attributes:
        title: heading of the panel.
        unit: Grafana's name of the unit, e.g. "ms" or "percentunit".
        queries: PromQL query → legend; Grafana replaces {{label}} by the label's value.
        description: how to read the panel.
    """

    title: str
    unit: str
    queries: dict[str, str]
    description: str = ""


def load_panels(folder: Path = FOLDER) -> dict[str, list[Panel]]:
    """Panels of every dashboard, by the dashboard's name."""
    content = read_yaml(folder / PANELS_FILE)
    return {name: [Panel(**panel) for panel in panels] for name, panels in content.items()}


def render_dashboards(folder: Path = FOLDER) -> dict[Path, str]:
    """Content of every dashboard's JSON file, by its path."""
    return {
        folder / f"{name}.json": json.dumps(_dashboard(name, panels), indent=1) + "\n"
        for name, panels in load_panels(folder).items()
    }


def _dashboard(name: str, panels: list[Panel]) -> dict[str, Any]:
    return {
        "uid": f"acousticsense-{name}",
        "title": f"AcousticSense: {name}",
        "tags": ["acousticsense"],
        "timezone": "browser",
        "schemaVersion": SCHEMA_VERSION,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_data_source()]},
        "panels": [_panel(i, panel) for i, panel in enumerate(panels)],
    }


def _data_source() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
    }


def _panel(i: int, panel: Panel) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    row, column = divmod(i, COLUMNS)  # Grafana's grid is 24 units wide: two panels of 12
    return {
        "id": i + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": source,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + k),
                "expr": query,
                "legendFormat": legend,
                "datasource": source,
            }
            for k, (query, legend) in enumerate(panel.queries.items())
        ],
    }
