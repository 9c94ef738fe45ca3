"""The re-tested claims as a page; every number comes from the measured dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from acoustic.evaluation.tables import interval, table
from benchmarks.claims.verdicts import __doc__ as verdicts

Report = dict[str, Any]


def write_claims(report: Report, pictures: Sequence[str] = ()) -> str:
    """Markdown of the claims report.

    Args:
        report: of `retest`.
        pictures: relative links to show.
    """
    parts = [_head(report), _claims(report), _noise(report), _calibrations(report), _review(report)]
    parts += [f"![{link.rsplit('/', 1)[-1].removesuffix('.png')}]({link})\n" for link in pictures]
    return "\n".join(parts)


def _head(report: Report) -> str:
    checkpoint = report["checkpoint"]
    words = (verdicts or "").split("\n\n")[1]
    return f"""# The guide's claims, re-tested

Written by `acousticsense evaluate --claims`; {checkpoint["name"]} {checkpoint["version"]}, model
digest `{checkpoint["digest"]}`, {report["date"]}. {report["n_tracks"]} valid tracks, each recording
once, {report["n_audio"]} of them with audio; their artists were not trained on. Effects are paired
over tracks, with 95 % bootstrap intervals; above 0 is better. Enhancement and noise are heard
through three windows and the front end that serves. Which tracks are ambiguous was fixed by
another model: the third that a support vector machine on hand-made features finds closest.

{words}

One interval in twenty misses its effect by chance, and there are {len(report["claims"])} of them.
"""


def _claims(report: Report) -> str:
    rows = [
        (
            each["technique"],
            each["setting"],
            each["unit"],
            "–" if each["claimed"] is None else f"{each['claimed']:+.3f}",
            _effect(each["effect"]),
            f"**{each['verdict']}**" if each["claimed"] is not None else each["verdict"],
        )
        for each in report["claims"]
    ]
    header = ("technique", "measured on", "effect on", "claimed", "measured", "verdict")
    return "## Verdicts\n\n" + table(header, rows)


def _effect(value: dict[str, float]) -> str:
    return f"{value['value']:+.3f} ({value['low']:+.3f} to {value['high']:+.3f})"


def _noise(report: Report) -> str:
    columns = [name for name in report["noise"][0] if name not in ("model", "variant")]
    rows = [
        (row["model"], row["variant"], *(interval(row[name]) for name in columns))
        for row in report["noise"]
    ]
    header = ("model", "enhancement", "clean", *(f"noise at {name}" for name in columns[1:]))
    return (
        "## Accuracy in noise\n\nMeans over white and pink noise and recordings of the held-out "
        "sounds.\n\n" + table(header, rows)
    )


def _calibrations(report: Report) -> str:
    rows = [
        (row["calibration"], row["adaptive_ece"], interval(row["nll"]))
        for row in report["calibrations"]
    ]
    return "## Calibration\n\n" + table(("ten windows", "adaptive ECE", "NLL"), rows)


def _review(report: Report) -> str:
    rows = [
        (name, f"{point['reviewed']:.2f}", interval(point["accuracy"]))
        for name, point in report["review"]["points"].items()
    ]
    header = ("who asks for a review", "share reviewed", "accuracy of the rest")
    return "## Asking for a review\n\n" + table(header, rows)
