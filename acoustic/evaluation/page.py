"""The evaluation as a page; every number comes from the measured dictionary.

The text is in `templates/evaluation.md.j2`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from acoustic.evaluation.markdown import render_markdown
from acoustic.evaluation.tables import interval


def write_page(report: dict[str, Any], pictures: Sequence[str] = ()) -> str:
    """Markdown of an evaluation.

    Args:
        report: result of `evaluate`.
        pictures: relative links to show, named after what they show.
    """
    reasons = report.get("reasons", {"faults": [], "clean": []})
    efforts = list(dict.fromkeys(row["effort"] for row in reasons["faults"]))
    return render_markdown(
        "acoustic.evaluation",
        "templates/evaluation.md.j2",
        report=report,
        parts=[*report["sources"].items(), ("pooled", report["pooled"])],
        efforts=efforts,
        faults=_by_effort(reasons["faults"], ("cause", "code"), efforts),
        clean=_by_effort(reasons["clean"], ("code",), efforts),
        pictures=pictures,
    )


def _by_effort(
    rows: Sequence[dict[str, Any]], keys: Sequence[str], efforts: Sequence[str]
) -> list[list[str]]:
    """Join the rows that differ in the effort only: their keys, then the share per effort."""
    shares: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        key = tuple(row[name] for name in keys)
        shares.setdefault(key, {})[row["effort"]] = interval(row["raised"])
    # a reason that no track has with one of the efforts has no row for that effort
    return [[*key, *(found.get(each, "0") for each in efforts)] for key, found in shares.items()]
