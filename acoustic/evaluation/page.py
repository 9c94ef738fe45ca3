"""The evaluation as a page that people read; every number comes from the measured dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from acoustic.evaluation.review_page import reasons_section
from acoustic.evaluation.tables import interval, table

Report = dict[str, Any]


def write_page(report: Report, pictures: Sequence[str] = ()) -> str:
    """Markdown of an evaluation.

    Args:
        report: of `evaluate`.
        pictures: relative links to show, named after what they show.
    """
    parts = [
        _head(report),
        _accuracy(report),
        _windows(report),
        _auto(report),
        _families(report),
        *(_per_genre(name, source) for name, source in report["sources"].items()),
        _calibration(report),
        _selective(report),
        reasons_section(report),
        _outliers(report),
        _parity(report),
        _robustness(report),
        _pictures(pictures),
    ]
    return "\n".join(part for part in parts if part)


def _head(report: Report) -> str:
    checkpoint = report["checkpoint"]
    calibrated = (
        "Each track was calibrated by tracks of other artists (in folds)."
        if report["cross_fitted"]
        else "The checkpoint's calibration was fitted on other tracks."
    )
    return f"""# Evaluation

Written by `acousticsense evaluate`; {checkpoint["name"]} {checkpoint["version"]}, model digest
`{checkpoint["digest"]}`, {checkpoint["n_parameters"] / 1e6:.2f} million parameters,
{len(checkpoint["labels"])} genres, windows of {checkpoint["window_s"]} s, {report["date"]}.

Tracks are of the valid split; their artists were not trained on. {report["windows"]} windows are
heard per track. In brackets: 95 % bootstrap intervals over tracks. {calibrated}
"Pooled" counts a recording once that two data sets have. {report["skipped"]} recordings of the
data were too short or could not be read.
"""


def _accuracy(report: Report) -> str:
    n_labels = len(report["checkpoint"]["labels"])
    baselines = report.get("baselines", {})
    rows: list[Sequence[object]] = []
    for name, source in [*report["sources"].items(), ("pooled", report["pooled"])]:
        own = source["own_genres"]
        rows.append(
            (
                name,
                source["n_tracks"],
                f"this model, {n_labels} genres",
                interval(source["accuracy"]),
                interval(source["macro_f1"]),
            )
        )
        if own["n_genres"] < n_labels:
            label = f"this model, its own {own['n_genres']} genres"
            rows.append((name, source["n_tracks"], label, interval(own["accuracy"]), "–"))
        family = interval(source["family_accuracy"])
        rows.append((name, source["n_tracks"], "this model, families", family, "–"))
        for baseline, measured in baselines.items():
            if name in measured:
                found = measured[name]
                rows.append(
                    (
                        name,
                        source["n_tracks"],
                        baseline,
                        interval(found["accuracy"]),
                        interval(found["macro_f1"]),
                    )
                )
    return (
        "## Accuracy\n\n"
        + table(("valid tracks", "n", "answers by", "accuracy", "macro-F1"), rows)
        + "\nBaselines are fitted on all train clips and choose among all genres. Siblings of one "
        "family (Hip-Hop and Rap among them) count as the same answer in the rows of families.\n"
    )


def _families(report: Report) -> str:
    rows = [
        (
            family,
            ", ".join(row["genres"]),
            row["n"],
            interval(row["recall"]),
            interval(row["merged_recall"]),
        )
        for family, row in report["pooled"]["per_family"].items()
    ]
    header = ("family", "genres", "n", "recall, told apart", "recall, merged")
    return "## Families, pooled\n\n" + table(header, rows) if rows else ""


def _windows(report: Report) -> str:
    rows = [
        (name, row["windows"], row["aggregation"], interval(row["accuracy"]))
        for name, source in report["sources"].items()
        for row in source["by_windows"]
    ]
    header = ("valid tracks", "windows", "joined by", "accuracy")
    return "## How much is heard\n\n" + table(header, rows)


def _auto(report: Report) -> str:
    rows = [(row["margin"], row["windows"], interval(row["accuracy"])) for row in report["auto"]]
    header = ("listens on while the lead is below", "windows per track", "accuracy, pooled")
    return (
        "## Effort auto\n\nIt begins with three windows, and adds three and then four while the "
        "best genre leads the second by less than `auto_margin`.\n\n" + table(header, rows)
    )


def _per_genre(name: str, source: Report) -> str:
    rows = [
        (
            genre,
            row["n"],
            interval(row["recall"]),
            "–" if row["precision"] is None else f"{row['precision']:.2f}",
        )
        for genre, row in source["per_genre"].items()
    ]
    return f"## Per genre, {name}\n\n" + table(("genre", "n", "recall", "precision"), rows)


def _calibration(report: Report) -> str:
    rows = [
        (
            name,
            part["calibration"]["adaptive_ece"],
            part["calibration"]["null_p95"],
            interval(part["nll"]),
            interval(part["brier"]),
        )
        for name, part in [*report["sources"].items(), ("pooled", report["pooled"])]
    ]
    raw = report["uncalibrated"]
    rows.append(("pooled, T = 1", raw["adaptive_ece"], raw["null_p95"], "–", "–"))
    header = ("valid tracks", "adaptive ECE", "null band (p95)", "NLL", "Brier")
    return (
        "## Calibration\n\n"
        + table(header, rows)
        + "\nA perfectly calibrated model would stay inside the null band 95 times in 100.\n"
    )


def _selective(report: Report) -> str:
    rows = []
    for name, part in [*report["sources"].items(), ("pooled", report["pooled"])]:
        selective, sets = part["selective"], part["prediction_sets"]
        rows.append(
            (
                name,
                interval(selective["error_auroc"]),
                interval(selective["aurc"]),
                interval(selective["accuracy_at_70"]),
                f"{selective['accepted']:.2f}",
                interval(selective["accepted_accuracy"]),
                interval(sets["coverage"]),
                interval(sets["size"]),
            )
        )
    header = (
        "valid tracks",
        "AUROC of errors",
        "AURC",
        "accuracy at 70 % coverage",
        "not reviewed",
        "accuracy there",
        f"coverage of {report['coverage']:.0%} sets",
        "genres per set",
    )
    return (
        "## Knowing when it is wrong\n\n"
        + table(header, rows)
        + f'\n"Not reviewed" is the share above the threshold that was fitted for an accuracy of '
        f"{report['review_accuracy']}.\n"
    )


def _outliers(report: Report) -> str:
    if "outliers" not in report:
        return ""
    rows = [(r["kind"], r["n"], r["score"], interval(r["auroc"])) for r in report["outliers"]]
    header = ("sounds", "n", "score", "AUROC against music")
    return "## Sounds that are no music\n\n" + table(header, rows)


def _parity(report: Report) -> str:
    parity = report.get("parity")
    if not parity:
        return ""
    return f"""## Training features against serving features

{parity["n_tracks"]} valid recordings exist both as audio and as a stored spectrogram. The median
difference is {parity["median_difference_db"]} dB (worst track {parity["worst_difference_db"]} dB);
the best genre agrees on {interval(parity["same_top_1"])} of them.
"""


def _robustness(report: Report) -> str:
    if "robustness" not in report:
        return ""
    robustness = report["robustness"]
    rows = [
        (r["kind"], r["strength"], interval(r["accuracy"]), r["refused"])
        for r in robustness["rows"]
    ]
    return (
        f"## Corrupted audio\n\n{robustness['n_tracks']} valid tracks with audio, three windows, "
        "through the serving pipeline. Refused files count as wrong.\n\n"
        + table(("corruption", "strength", "accuracy", "refused"), rows)
        + f"\nMean over kinds of noise at 5 dB SNR and below: {robustness['loud_noise_accuracy']}; "
        f"mean over 0 to 20 dB relative to clean: {robustness['relative_robustness']}.\n"
    )


def _pictures(links: Sequence[str]) -> str:
    if not links:
        return ""
    lines = [f"![{link.rsplit('/', 1)[-1].removesuffix('.png')}]({link})" for link in links]
    return "## Pictures\n\n" + "\n\n".join(lines) + "\n"
