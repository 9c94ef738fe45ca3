"""Grafana dashboards from a list of panels.

`configs/grafana/panels.yaml` says what is drawn: titles, queries, units. Grafana's own form of that
has a hundred lines a panel; it is written from the list, and a test holds it against it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.config import PROJECT_ROOT, read_yaml

FOLDER = PROJECT_ROOT / "configs" / "grafana"
PANELS_FILE = "panels.yaml"
COLUMNS, WIDTH, HEIGHT = 2, 12, 8
SCHEMA_VERSION = 39
"""Of Grafana 10 and 11; later ones migrate it when they load it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One picture.

    Attributes:
        title: what it shows.
        unit: Grafana's name of it, such as "ms" or "percentunit".
        queries: PromQL → legend, where {{label}} is filled in.
        description: what to make of it.
    """

    title: str
    unit: str
    queries: dict[str, str]
    description: str = ""


def load_panels(folder: Path = FOLDER) -> dict[str, list[Panel]]:
    """Dashboard → its panels."""
    content = read_yaml(folder / PANELS_FILE)
    return {name: [Panel(**panel) for panel in panels] for name, panels in content.items()}


def render_dashboards(folder: Path = FOLDER) -> dict[Path, str]:
    """Path → content of every dashboard's JSON file."""
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
    row, column = divmod(i, COLUMNS)
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
