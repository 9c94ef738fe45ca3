"""The part of the evaluation's page that is about the reasons for a review."""

from __future__ import annotations

from typing import Any

from acoustic.evaluation.tables import interval, table


def reasons_section(report: dict[str, Any]) -> str:
    """How often each reason is given where its cause was put in, and on clean tracks."""
    if "reasons" not in report:
        return ""
    measured = report["reasons"]
    faults = _by_effort(measured["faults"], ("cause", "code"))
    clean = _by_effort(measured["clean"], ("code",))
    efforts = ("balanced", "thorough")
    return (
        f"## Reasons\n\nShare of {measured['n_cases']} cases per fault, made from valid tracks, "
        "in which the reason was given.\n\n"
        + table(("fault", "reason", *efforts), faults)
        + f"\nThe same reasons on the {measured['n_clean']} valid tracks with audio as they are. "
        "Reasons of the answer itself (low confidence, a close rival, a known confusion) are "
        "meant to be frequent: they are how a review is asked for.\n\n"
        + table(("reason", *efforts), clean)
    )


def _by_effort(rows: list[dict[str, Any]], keys: tuple[str, ...]) -> list[tuple[str, ...]]:
    """One row for both efforts."""
    shares: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        key = tuple(row[name] for name in keys)
        shares.setdefault(key, {})[row["effort"]] = interval(row["raised"])
    return [
        (*key, found.get("balanced", "0"), found.get("thorough", "0"))
        for key, found in shares.items()
    ]
