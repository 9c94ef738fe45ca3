"""The model card; every number comes from what training, calibration and evaluation measured.

The text is in `templates/card.md.j2`.
"""

from __future__ import annotations

from typing import Any

from acoustic.checkpoint_folder import Manifest
from acoustic.evaluation.markdown import render_markdown
from acoustic.evaluation.page import side_by_side
from acoustic.postprocess.calibration import Calibration

N_CONFUSIONS = 8
CODEC_KINDS = ("clean", "low-pass", "MP3")


def write_card(
    manifest: Manifest,
    training: dict[str, Any],
    calibration: Calibration,
    report: dict[str, Any],
    about: str = "",
) -> str:
    """Markdown of the model card.

    Args:
        manifest: manifest of the checkpoint.
        training: content of training.json.
        calibration: calibration of the checkpoint.
        report: result of `evaluate`.
        about: Markdown of what no measurement can say of the data: where it is from, its licence.
    """
    robustness = report.get("robustness", {"rows": []})
    sources = sorted({source for counts in training["clips"].values() for source in counts})
    return render_markdown(
        "acoustic.evaluation",
        "templates/card.md.j2",
        manifest=manifest,
        mel=manifest.mel,
        training=training,
        calibration=calibration,
        report=report,
        about=about.strip(),
        unseen=report["collections"]["unseen"],
        seen=report["collections"]["seen"],
        side_by_side=side_by_side(report),
        sources=sources,
        clips=[
            (genre, *(counts.get(source, 0) for source in sources))
            for genre, counts in training["clips"].items()
        ],
        confusions=_worst_confusions(report),
        codec=[row for row in robustness["rows"] if row["kind"] in CODEC_KINDS],
        outliers=[row for row in report.get("outliers", []) if row["score"] == "entropy"],
    )


def _worst_confusions(report: dict[str, Any]) -> list[tuple[int, str, str, int]]:
    """(tracks, their genre, answered genre, all tracks of their genre), most tracks first."""
    names, counts = report["checkpoint"]["labels"], report["pooled"]["confusion"]
    found = [
        (count, names[i], names[j], sum(row))
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(found, reverse=True)[:N_CONFUSIONS]
