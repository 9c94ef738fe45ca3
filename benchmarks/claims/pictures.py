"""Figures of the claims report: review policies, and enhancement in noise.

They need matplotlib, the extra acousticsense[plots].
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from acoustic.evaluation.pictures import save_figures

Report = dict[str, Any]


def draw_claims(report: Report, folder: Path) -> list[str]:
    """Draw the figures of the claims report into PNG files.

    Args:
        report: result of `retest`.
        folder: folder of the files; created if missing.

    Returns:
        File names, in the order of the page.

    Raises:
        ImportError: matplotlib is not installed.
    """
    return save_figures(folder, {"review.png": _review, "noise.png": _noise}, report)


def _review(pyplot: Any, report: Report) -> Any:
    review = report["review"]
    figure, axes = pyplot.subplots(figsize=(6.5, 4.3))
    axes.plot(review["reviewed"], review["accuracy"], label="least confident first", zorder=1)
    for (name, point), marker in zip(review["points"].items(), "o^sD", strict=False):
        if point["accuracy"] is None:
            continue
        value = point["accuracy"]
        error = [[value["value"] - value["low"]], [value["high"] - value["value"]]]
        axes.errorbar(
            point["reviewed"], value["value"], yerr=error, marker=marker, capsize=3,
            linestyle="none", label=name,
        )  # fmt: skip
    axes.set_xlabel("share of the tracks that are reviewed")
    axes.set_ylabel("accuracy of unreviewed tracks")
    axes.set_xlim(-0.03, 0.9)
    axes.set_ylim(0.6, 1.02)
    axes.grid(alpha=0.3)
    axes.set_title("Accuracy of unreviewed tracks, by review policy")
    axes.legend(loc="upper left")
    return figure


def _noise(pyplot: Any, report: Report) -> Any:
    models = list(dict.fromkeys(row["model"] for row in report["noise"]))
    variants = list(dict.fromkeys(row["variant"] for row in report["noise"]))
    hardest = [name for name in report["noise"][0] if name.endswith(" dB")][-1]
    figure, axes = pyplot.subplots(figsize=(7.5, 0.45 * len(variants) + 1.8))
    height = 0.8 / len(models)
    for m, model in enumerate(models):
        rows = {row["variant"]: row[hardest] for row in report["noise"] if row["model"] == model}
        values = np.array([rows[name]["value"] for name in variants])
        low = values - [rows[name]["low"] for name in variants]
        high = np.array([rows[name]["high"] for name in variants]) - values
        positions = np.arange(len(variants)) + (m - (len(models) - 1) / 2) * height
        axes.barh(positions, values, height, xerr=[low, high], label=model, capsize=2)
    axes.set_yticks(range(len(variants)), variants)
    axes.invert_yaxis()
    axes.set_xlabel(f"accuracy in noise at {hardest}, mean over kinds")
    axes.set_title("Accuracy in noise, by enhancement")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncol=2)
    return figure
