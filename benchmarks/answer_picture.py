"""Draw one answer, as docs/answer.png shows it: `python -m benchmarks.answer_picture FILE`.

Top: the best genre of each window over time. Left: the genres' probabilities with the prediction
set marked. Right: reasons for a review and the numbers behind them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from acoustic.prediction import Prediction
from acousticsense import Classifier
from deployments.built_in import CHECKOUT

PAGE_PICTURE = CHECKOUT / "docs" / "answer.png"
IN_SET, OUTSIDE = "#2f6f9f", "#b9c7d3"


def main() -> None:
    """Classify a file with ten windows and draw the answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, default=PAGE_PICTURE)
    arguments = parser.parse_args()
    with Classifier() as classifier:
        prediction = classifier.classify(arguments.file, effort="thorough", top_k=8, timeline=True)
    draw(prediction, arguments.out)
    print(json.dumps(prediction.to_dict()))


def draw(prediction: Prediction, out: Path) -> None:
    """Write the picture as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(9, 5), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(1, 4), width_ratios=(3, 2))
    _draw_timeline(figure.add_subplot(grid[0, :]), prediction)
    _draw_genres(figure.add_subplot(grid[1, 0]), prediction)
    _draw_reasons(figure.add_subplot(grid[1, 1]), prediction)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def _draw_timeline(axes, prediction: Prediction) -> None:  # type: ignore[no-untyped-def]
    """A bar per window, as long as the window, labelled with its best genre."""
    for i, window in enumerate(prediction.timeline or ()):
        agrees = window.genre == prediction.genre
        row = i % 2  # neighbours overlap
        axes.barh(
            row, window.end_s - window.start_s, left=window.start_s, height=0.8,
            color=IN_SET if agrees else OUTSIDE, alpha=0.4 + 0.6 * window.probability,
        )  # fmt: skip
        axes.text(
            (window.start_s + window.end_s) / 2, row, window.genre, ha="center", va="center",
            fontsize=7, color="white" if agrees else "black",
        )  # fmt: skip
    axes.set_yticks([])
    axes.set_xlabel("seconds", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.set_title("best genre of each window", fontsize=9, loc="left")


def _draw_genres(axes, prediction: Prediction) -> None:  # type: ignore[no-untyped-def]
    members = prediction.prediction_set.genres if prediction.prediction_set else ()
    scores = prediction.predictions[::-1]
    bars = axes.barh(
        [score.genre for score in scores],
        [score.probability for score in scores],
        color=[IN_SET if score.genre in members else OUTSIDE for score in scores],
    )
    axes.bar_label(bars, [f"{score.probability:.0%}" for score in scores], padding=3, fontsize=8)
    axes.set_xlim(0, 1)
    axes.tick_params(labelsize=8)
    coverage = prediction.prediction_set.coverage if prediction.prediction_set else 0
    axes.set_title(
        f"calibrated probability; dark: prediction set of {coverage:.0%}", fontsize=9, loc="left"
    )


def _draw_reasons(axes, prediction: Prediction) -> None:  # type: ignore[no-untyped-def]
    lines = [f"needs_review: {str(prediction.needs_review).lower()}"]
    for reason in prediction.reasons:
        lines += [f"\n{reason.code}", f"  {reason.value:.2f}, limit {reason.threshold:.2f}"]
    uncertainty = prediction.uncertainty
    lines += ["", f"entropy {uncertainty.entropy:.2f}, margin {uncertainty.margin:.2f}"]
    lines += [f"disagreement {uncertainty.segment_disagreement:.2f}"]
    if prediction.family:
        lines += [f"family {prediction.family.name} {prediction.family.probability:.0%}"]
    axes.axis("off")
    axes.text(0, 1, "\n".join(lines), va="top", fontsize=9, family="monospace")
    axes.set_title("why a person should look", fontsize=9, loc="left")


if __name__ == "__main__":
    main()
