"""Figures of an evaluation: confusion, reliability, risk–coverage, auto, corruptions.

They need matplotlib, the extra acousticsense[plots].
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from acoustic.evaluation.page import SIDES

Report = dict[str, Any]
Draw = Callable[[Any, Report], Any]
"""Function of pyplot and the report that returns a figure."""

DPI = 110


def draw_pictures(report: Report, folder: Path) -> list[str]:
    """Draw the figures of an evaluation into PNG files.

    Args:
        report: result of `evaluate`.
        folder: folder of the files; created if missing.

    Returns:
        File names, in the order of the page.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figures: dict[str, Draw] = {
        "confusion.png": _confusion,
        "reliability.png": _reliability,
        "risk-coverage.png": _risk_coverage,
        "auto.png": _auto,
    }
    if "robustness" in report:
        figures["corruptions.png"] = _corruptions
    return save_figures(folder, figures, report)


def save_figures(folder: Path, figures: dict[str, Draw], report: Report) -> list[str]:
    """Draw each figure into its file.

    Args:
        folder: folder of the files; created if missing.
        figures: file name → function that draws the figure.
        report: report to draw.

    Returns:
        File names.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in figures.items():
        figure = draw(pyplot, report)
        figure.savefig(folder / name, dpi=DPI, bbox_inches="tight")
        pyplot.close(figure)
    return list(figures)


def _confusion(pyplot: Any, report: Report) -> Any:
    names = report["checkpoint"]["labels"]
    counts = np.array(report["pooled"]["confusion"], float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = pyplot.subplots(figsize=(8, 7))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
    axes.set_yticks(range(len(names)), names)
    for i, j in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[i, j] > 0.5 else "black"
        axes.text(j, i, int(counts[i, j]), ha="center", va="center", fontsize=8, color=colour)
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    axes.set_title("Confusion, pooled valid tracks (counts; colour: share of the row)")
    return figure


def _reliability(pyplot: Any, report: Report) -> Any:
    figure, axes = pyplot.subplots(figsize=(5.5, 5))
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, label="perfect")
    for name, label in SIDES.items():
        if (part := report["collections"][name]) is None:
            continue
        found = part["calibration"]
        x = [each["confidence"] for each in found["bins"]]
        y = [each["accuracy"] for each in found["bins"]]
        error = f"adaptive ECE {found['adaptive_ece']:.3f} (null band {found['null_p95']:.3f})"
        axes.plot(x, y, marker="o", label=f"{label}:\n{error}")
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    axes.set_title("Accuracy by confidence")
    axes.legend()
    return figure


def _risk_coverage(pyplot: Any, report: Report) -> Any:
    figure, axes = pyplot.subplots(figsize=(6.5, 4.5))
    for name, part in [*report["sources"].items(), ("pooled", report["pooled"])]:
        risk = part["selective"]["risk_coverage"]
        coverage = np.arange(1, len(risk) + 1) / len(risk)
        axes.plot(coverage, 1 - np.array(risk), label=name)
    axes.set_xlabel("share of the tracks that nobody reviews, most confident first")
    axes.set_ylabel("accuracy among them")
    axes.set_ylim(0, 1.02)
    axes.set_title("Accuracy against coverage")
    axes.legend()
    return figure


def _auto(pyplot: Any, report: Report) -> Any:
    rows = report["auto"]
    figure, axes = pyplot.subplots(figsize=(6, 4))
    windows = [row["windows"] for row in rows]
    accuracy = np.array([row["accuracy"]["value"] for row in rows])
    low = accuracy - [row["accuracy"]["low"] for row in rows]
    high = np.array([row["accuracy"]["high"] for row in rows]) - accuracy
    axes.errorbar(windows, accuracy, yerr=[low, high], marker="o", capsize=3)
    for row, y in zip(rows, accuracy, strict=True):
        axes.annotate(f"{row['margin']:g}", (row["windows"], y), textcoords="offset points",
                      xytext=(5, 6), fontsize=8)  # fmt: skip
    axes.set_xlabel("windows evaluated per track, mean")
    axes.set_ylabel("accuracy")
    axes.set_title("Effort auto: another round while the lead is below the number")
    return figure


def _corruptions(pyplot: Any, report: Report) -> Any:
    rows = report["robustness"]["rows"]
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    width = max(sum(row["kind"] == kind for row in rows) for kind in kinds)
    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(kinds) + 1))
    shown = np.full((len(kinds), width), np.nan)
    for i, kind in enumerate(kinds):
        for j, row in enumerate(row for row in rows if row["kind"] == kind):
            value = row["accuracy"]["value"]
            shown[i, j] = value
            text = f"{row['strength']}\n{value:.2f}".strip()
            axes.text(j, i, text, ha="center", va="center", fontsize=7)
    axes.imshow(shown, cmap="RdYlGn", vmin=0, vmax=1, aspect="auto")
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_xticks([])
    axes.set_title("Accuracy under corruption")
    return figure
