"""The evaluation as a page; every number comes from the measured dictionary.

The text is in `templates/evaluation.md.j2`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        unseen=report["collections"]["unseen"],
        seen=report["collections"]["seen"],
        side_by_side=side_by_side(report),
        parts=[*report["sources"].items(), ("pooled", report["pooled"])],
        efforts=efforts,
        faults=_by_effort(reasons["faults"], ("cause", "code"), efforts),
        clean=_by_effort(reasons["clean"], ("code",), efforts),
        pictures=pictures,
    )


SIDES = {"unseen": "collections unseen", "seen": "collections seen, artists unseen"}


def side_by_side(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: measures on unseen and on seen collections, where there are tracks of them.

    Args:
        report: result of `evaluate`.
    """
    sides = {text: report["collections"][name] for name, text in SIDES.items()}
    present = {text: part for text, part in sides.items() if part is not None}
    rows: dict[str, Callable[[dict[str, Any]], str]] = {
        "tracks": lambda part: str(part["n_tracks"]),
        "accuracy": lambda part: interval(part["accuracy"]),
        "macro-F1": lambda part: interval(part["macro_f1"]),
        "families right": lambda part: interval(part["family_accuracy"]),
        "NLL, nats": lambda part: interval(part["nll"]),
        "adaptive ECE (95th percentile if calibrated)": lambda part: (
            f"{part['calibration']['adaptive_ece']:.3f} ({part['calibration']['null_p95']:.3f})"
        ),
        f"coverage of {report['coverage']:.0%} sets": lambda part: interval(
            part["prediction_sets"]["coverage"]
        ),
        "genres in a set": lambda part: interval(part["prediction_sets"]["size"]),
        "share not flagged for low confidence": lambda part: f"{part['selective']['accepted']:.3f}",
        "of those, right": lambda part: interval(part["selective"]["accepted_accuracy"]),
        "AUROC of errors by confidence": lambda part: interval(part["selective"]["error_auroc"]),
        "share answered by a family instead": lambda part: f"{part['families']['shown']:.3f}",
        "of those, family right": lambda part: interval(part["families"]["accuracy"]),
    }
    header = [f"{report['windows']} windows", *present]
    return header, [[name, *map(of, present.values())] for name, of in rows.items()]


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
