"""The model card, written from measured values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from acoustic.manifest import Manifest
from acoustic.postprocess.calibration import Calibration

Interval = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceResult:
    """Measurements on the valid clips of one source.

    Attributes:
        source: its name. n_tracks: valid tracks.
        accuracy: number of windows → accuracy over all labels, with interval.
        restricted_accuracy: with most windows, choosing only among the source's own genres.
        probe_accuracy: of the linear probe on the same clips.
        recall: genre → (recall with most windows, number of tracks).
    """

    source: str
    n_tracks: int
    accuracy: dict[int, Interval]
    restricted_accuracy: Interval
    probe_accuracy: Interval
    recall: dict[str, tuple[float, int]]


def write_card(
    manifest: Manifest,
    training: dict[str, Any],
    calibration: Calibration,
    results: list[SourceResult],
) -> str:
    """Markdown of the model card.

    Args:
        manifest: of the checkpoint.
        training: content of training.json.
        calibration: that was fitted.
        results: one per source.
    """
    parts = [
        _introduction(manifest, training),
        _data(training),
        _accuracy(results),
        *(_recall(result) for result in results),
        _calibration(calibration),
        _limits(),
    ]
    return "\n".join(parts)


def _introduction(manifest: Manifest, training: dict[str, Any]) -> str:
    recipe, mel = training["recipe"], manifest.mel
    return f"""# {manifest.name} {manifest.version}

A first checkpoint: a small Vision Transformer ({training["variant"]},
{training["n_parameters"] / 1e6:.2f} million parameters) that tells {len(manifest.labels)} music
genres from windows of {mel.window_s:.2f} s. It is for research and demonstration.

- Input: mono {mel.sample_rate} Hz, {mel.n_mels} mel bands to {mel.f_max:.0f} Hz, hop
  {mel.hop_length} samples, {mel.n_frames} frames, dB relative to the window's maximum.
- Trained from scratch on {training["date"]} with `python -m acoustic.training train`:
  {recipe["n_crops"]:,} crops, batch {recipe["batch_size"]}, AdamW at {recipe["learning_rate"]:g},
  {training["cpu_minutes"]:.0f} CPU minutes in all. The weights are the moving average at the last
  step. Learning rate, strength of augmentation and the stem's norm were compared on valid clips
  in short runs, so the accuracies below flatter a little.
- Weights are stored in half precision; model digest `{manifest.digest}`.
"""


def _data(training: dict[str, Any]) -> str:
    sources = sorted({source for counts in training["clips"].values() for source in counts})
    lines = [f"| genre | {' | '.join(sources)} |", "|---|" + "---|" * len(sources)]
    for genre, counts in training["clips"].items():
        lines.append(f"| {genre} | {' | '.join(str(counts.get(s, 0)) for s in sources)} |")
    table = "\n".join(lines)
    return f"""## Data

Training clips per genre and source. `gtzan_mel` is the training side of the fault-filtered GTZAN
split, as spectrograms; `music` is a collection of real excerpts of 6 to 30 s. Artists are on one
side of each split only. No source states a licence for the music, so none of it is distributed:
only weights and measurements are.

{table}
"""


def _accuracy(results: list[SourceResult]) -> str:
    counts = sorted(results[0].accuracy)
    heads = " | ".join(f"{n} window{'s' if n > 1 else ''}" for n in counts)
    lines = [
        f"| valid clips | n | {heads} | {counts[-1]} windows, source's own genres | linear probe |",
        "|---|---|" + "---|" * (len(counts) + 2),
    ]
    for result in results:
        cells = [_interval(result.accuracy[n]) for n in counts]
        cells += [_interval(result.restricted_accuracy), _interval(result.probe_accuracy)]
        lines.append(f"| {result.source} | {result.n_tracks} | {' | '.join(cells)} |")
    table = "\n".join(lines)
    return f"""## Accuracy

On valid clips, whose artists were not trained on; 95 % bootstrap intervals over tracks. "Source's
own genres" lets the model choose only among genres that the source has, as a model of those
genres alone would. The linear probe is logistic regression on mean and deviation per mel band,
fitted on the same source.

{table}
"""


def _recall(result: SourceResult) -> str:
    lines = ["| genre | recall | n |", "|---|---|---|"]
    lines += [f"| {genre} | {recall:.2f} | {n} |" for genre, (recall, n) in result.recall.items()]
    table = "\n".join(lines)
    return f"""### Recall per genre, {result.source}

{table}
"""


def _calibration(calibration: Calibration) -> str:
    lines = ["| windows | temperature | NLL | adaptive ECE |", "|---|---|---|---|"]
    for n in sorted(calibration.temperatures):
        lines.append(
            f"| {n} | {calibration.temperatures[n]:.3f} | {calibration.nll[n]:.3f} | "
            f"{calibration.ece[n]:.3f} |"
        )
    table = "\n".join(lines)
    return f"""## Calibration

One temperature per number of windows, fitted by NLL on {calibration.n_tracks} tracks
({calibration.dataset}) on {calibration.date}. NLL and ECE are on the same tracks, so they flatter.

{table}
"""


def _limits() -> str:
    return """## What it is not

- Not a judge of single tracks: with this little data every answer is a probability; use
  `needs_review` and the uncertainty numbers.
- Genres with few training clips (see Data) are guesses. Hip-Hop against Rap has no objective
  border in this data.
- Part of the Electronic, Hip-Hop, Rap, R&B and Disco clips come from one band-limited source;
  random low-pass in training works against learning that instead of the music, but it was not
  yet measured how well.
- Speech, noise and other sounds that are not music get a genre as well.
"""


def _interval(value: Interval) -> str:
    mean, low, high = value
    return f"{mean:.3f} ({low:.3f}–{high:.3f})"
