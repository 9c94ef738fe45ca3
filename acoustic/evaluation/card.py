"""The model card, written from what training and evaluation measured, and from nothing else."""

from __future__ import annotations

from typing import Any

from acoustic.evaluation.markdown import interval, table
from acoustic.manifest import Manifest
from acoustic.postprocess.calibration import Calibration

N_CONFUSIONS = 8


def write_card(
    manifest: Manifest,
    training: dict[str, Any],
    calibration: Calibration,
    report: dict[str, Any],
) -> str:
    """Markdown of the model card.

    Args:
        manifest: of the checkpoint.
        training: content of training.json.
        calibration: of the checkpoint.
        report: of `evaluate`.
    """
    parts = [
        _introduction(manifest, training),
        _data(training),
        _accuracy(report),
        _confusions(report),
        _calibration(calibration, report),
        _codec(report),
        _limits(report),
    ]
    return "\n".join(parts)


def _introduction(manifest: Manifest, training: dict[str, Any]) -> str:
    recipe, mel = training["recipe"], manifest.mel
    return f"""# {manifest.name} {manifest.version}

A small Vision Transformer ({training["variant"]}, {training["n_parameters"] / 1e6:.2f} million
parameters) that tells {len(manifest.labels)} music genres from windows of {mel.window_s:.2f} s.
It is for research and demonstration.

- Input: mono {mel.sample_rate} Hz, {mel.n_mels} mel bands to {mel.f_max:.0f} Hz, hop
  {mel.hop_length} samples, {mel.n_frames} frames, dB relative to the window's maximum.
- Trained on {training["date"]} with `acousticsense train`: {recipe["n_crops"]:,} crops, batch
  {recipe["batches"]["batch_size"]}, optimiser {recipe["optimiser"]["name"]},
  {training["cpu_minutes"]:.0f} CPU minutes. The weights are the moving average at the last step.
- Weights are stored in half precision; model digest `{manifest.digest}`.
"""


def _data(training: dict[str, Any]) -> str:
    sources = sorted({source for counts in training["clips"].values() for source in counts})
    rows = [
        (genre, *(counts.get(source, 0) for source in sources))
        for genre, counts in training["clips"].items()
    ]
    return (
        "## Data\n\nTraining clips per genre and source; artists are on one side of each split "
        f"only. {training['n_outliers']} recordings of speech and environmental sounds served as "
        "noise and as examples of no genre. No source states a licence for the music: none of it "
        "is distributed, only weights and measurements are.\n\n" + table(("genre", *sources), rows)
    )


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
        "## Accuracy\n\nOn valid tracks, ten windows, 95 % bootstrap intervals over tracks. The "
        "recipe was chosen on these tracks in short runs, so the figures flatter a little.\n\n"
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
        (n, temperature, calibration.review_thresholds.get(n, "–"))
        for n, temperature in calibration.temperatures.items()
    ]
    measured = report["pooled"]["calibration"]
    header = ("windows", "temperature", f"threshold for accuracy {calibration.review_accuracy}")
    return (
        f"## Calibration\n\nFitted by NLL on {calibration.n_tracks} tracks "
        f"({calibration.dataset}) on {calibration.date}. Cross-fitted adaptive ECE "
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
        "## Does it hear the codec?\n\nPart of the Electronic, Hip-Hop, Rap, R&B and Disco clips "
        "come from one band-limited source. A model that learned the codec instead of the music "
        "would collapse when all tracks lose their upper bands or are encoded again.\n\n"
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
            "- Genres with few training clips (see Data) are guesses. Hip-Hop against Rap has no",
            "  objective border in this data.",
            *outliers,
            "",
        ]
    )
