"""The re-tested claims as a page; every number comes from the measured dictionary.

The text is in `claims.md.j2`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from acoustic.evaluation.markdown import render_markdown
from acoustic.evaluation.tables import interval
from benchmarks.claims.verdicts import __doc__ as verdicts


def write_claims(report: dict[str, Any], pictures: Sequence[str] = ()) -> str:
    """Markdown of the claims report.

    Args:
        report: result of `retest`.
        pictures: relative links to show.
    """
    clean, *levels = (name for name in report["noise"][0] if name not in ("model", "variant"))
    return render_markdown(
        "benchmarks.claims",
        "claims.md.j2",
        report=report,
        verdicts=(verdicts or "").split("\n\n")[1],
        noise_header=["model", "enhancement", clean, *(f"noise at {name}" for name in levels)],
        noise=[
            [row["model"], row["variant"], *(interval(row[name]) for name in (clean, *levels))]
            for row in report["noise"]
        ],
        pictures=pictures,
    )
