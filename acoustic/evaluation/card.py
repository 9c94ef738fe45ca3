"""The model card, written from what training and evaluation measured, and from nothing else."""

from __future__ import annotations

from typing import Any

from acoustic.checkpoint_folder import Manifest
from acoustic.evaluation.tables import interval, table
from acoustic.postprocess.calibration import Calibration

N_CONFUSIONS = 8


def write_card(
    manifest: Manifest,
    training: dict[str, Any],
    calibration: Calibration,
    report: dict[str, Any],
    about: str = "",
) -> str:
    """Markdown of the model card.

    Args:
        manifest: of the checkpoint.
        training: content of training.json.
        calibration: of the checkpoint.
        report: of `evaluate`.
        about: Markdown of what no measurement can say of the data: where it is from, its licence.
    """
    parts = [
        _introduction(manifest, training),
        _data(training, about),
        _accuracy(report),
        _confusions(report),
        _calibration(calibration, report),
        _codec(report),
        _limits(report),
    ]
    return "\n".join(part for part in parts if part)


def _introduction(manifest: Manifest, training: dict[str, Any]) -> str:
    recipe, mel = training["recipe"], manifest.mel
    n_crops = training["history"][-1]["n_crops"]
    return f"""# {manifest.name} {manifest.version}

A small Vision Transformer ({training["variant"]}, {training["n_parameters"] / 1e6:.2f} million
parameters) that tells {len(manifest.labels)} music genres from windows of {mel.window_s:.2f} s.
It is for research and demonstration.

- Input: mono {mel.sample_rate} Hz, {mel.n_mels} mel bands to {mel.f_max:.0f} Hz, hop
  {mel.hop_length} samples, {mel.n_frames} frames, dB relative to the window's maximum.
- Trained on {training["date"]} with `acousticsense train`: {n_crops:,} crops, batch
  {recipe["batches"]["batch_size"]}, optimiser {recipe["optimiser"]["name"]},
  {training["cpu_minutes"]:.0f} CPU minutes. The weights are the moving average at the last step.
- Weights are stored in half precision; model digest `{manifest.digest}`.
"""


def _data(training: dict[str, Any], about: str) -> str:
    sources = sorted({source for counts in training["clips"].values() for source in counts})
    rows = [
        (genre, *(counts.get(source, 0) for source in sources))
        for genre, counts in training["clips"].items()
    ]
    outliers = (
        f"{training['n_outliers']} recordings of other sounds served as noise and as examples of "
        "no genre."
        if training["n_outliers"]
        else "No other sounds than music were learned."
    )
    counts = table(("genre", *sources), rows)
    told = f"{about.strip()}\n\n" if about else ""
    return f"## Data\n\n{told}Training clips per genre and source. {outliers}\n\n{counts}"


def _accuracy(report: dict[str, Any]) -> str:
    rows = [
        (
            name,
            part["n_tracks"],
            interval(part["accuracy"]),
            interval(part["own_genres"]["accuracy"]),
            interval(part["family_accuracy"]),
            interval(part["macro_f1"]),
        )
        for name, part in report["sources"].items()
    ]
    header = ("valid tracks", "n", "all genres", "source's own genres", "families", "macro-F1")
    return (
        "## Accuracy\n\nOn valid tracks, ten windows, 95 % bootstrap intervals over tracks.\n\n"
        + table(header, rows)
    )


def _confusions(report: dict[str, Any]) -> str:
    names, counts = report["checkpoint"]["labels"], report["pooled"]["confusion"]
    found = [
        (count, names[i], names[j], sum(row))
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        if i != j and count
    ]
    worst = sorted(found, reverse=True)[:N_CONFUSIONS]
    rows = [(truth, answer, f"{count} of {n}") for count, truth, answer, n in worst]
    return "## Known confusions\n\n" + table(("truth", "answer", "tracks"), rows)


def _calibration(calibration: Calibration, report: dict[str, Any]) -> str:
    rows = [
        (n, each.temperature, "–" if each.review_threshold is None else each.review_threshold)
        for n, each in calibration.windows.items()
    ]
    measured = report["pooled"]["calibration"]
    header = ("windows", "temperature", f"threshold for accuracy {calibration.review_accuracy}")
    how = "Cross-fitted adaptive" if report["cross_fitted"] else "Adaptive"
    return (
        f"## Calibration\n\nFitted by NLL on {calibration.n_tracks} tracks "
        f"({calibration.dataset}) on {calibration.date}. {how} ECE on the valid tracks "
        f"{measured['adaptive_ece']}, null band {measured['null_p95']}.\n\n" + table(header, rows)
    )


def _codec(report: dict[str, Any]) -> str:
    rows = [
        (row["kind"], row["strength"], interval(row["accuracy"]))
        for row in report.get("robustness", {}).get("rows", [])
        if row["kind"] in ("clean", "low-pass", "MP3")
    ]
    if not rows:
        return ""
    return (
        "## Does it hear the codec?\n\nA model that learned the codec instead of the music would "
        "collapse when all tracks lose their upper bands or are encoded again.\n\n"
        + table(("corruption", "strength", "accuracy"), rows)
    )


def _limits(report: dict[str, Any]) -> str:
    outliers = [
        f"- Told from music by {r['score']}: {r['kind']} sounds with AUROC {interval(r['auroc'])}."
        for r in report.get("outliers", [])
        if r["score"] == "entropy"
    ]
    return "\n".join(
        [
            "## What it is not",
            "",
            "- Not a judge of single tracks: every answer is a probability; use `needs_review`.",
            "- Genres with few training clips (see Data) are guesses.",
            *outliers,
            "",
        ]
    )
