"""A picture of one answer: waveform, what the model sees, answers over time, genres."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from acoustic.errors import ConfigError
from acoustic.geometry import MelConfig
from acoustic.mel_bands import mel_band_edges_hz
from acoustic.prediction import Prediction
from acoustic.preprocess.decode import open_audio
from acoustic.preprocess.guard import DecodeLimits
from acoustic.types import Segment, TrackFeatures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg", ".pdf")
SIZE_INCHES = (10.0, 9.0)
DOTS_PER_INCH = 120
N_PEAKS = 1500
SOUND, OTHER, MEMBER = "#8a97a3", "#b9c3cb", "#245a8d"


def draw(
    path: Path, audio: bytes, features: TrackFeatures, answer: Prediction, mel: MelConfig
) -> None:
    """Write the picture of an answer.

    Args:
        path: file; its ending says the format, one of SUFFIXES.
        audio: content of the audio file.
        features: windows of it, at least those that the answer is about.
        answer: with its timeline and all genres.
        mel: geometry of the windows.

    Raises:
        ConfigError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    wave, seen, genres = figure.subplots(3, 1, height_ratios=[1.0, 1.4, 2.0])
    duration_s = _draw_wave(wave, audio, answer)
    _draw_windows(seen, features, answer, mel, duration_s)
    _draw_genres(genres, answer)
    name = Path(answer.file).name
    figure.suptitle(f"{name}: {answer.top_genre}, {answer.confidence:.0%}".replace("$", r"\$"))
    try:
        figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Title": name})
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def peaks(samples: npt.NDArray[np.float32], n: int = N_PEAKS) -> npt.NDArray[np.float32]:
    """Largest absolute value of each of up to n equal parts.

    Args:
        samples: (k,) float32.
        n: most parts.
    """
    size = max(1, -(-samples.size // n))
    padded = np.pad(np.abs(samples), (0, -samples.size % size))
    return np.asarray(padded.reshape(-1, size).max(axis=1))


def _draw_wave(axes: Axes, audio: bytes, answer: Prediction) -> float:
    """The waveform with the answers over time; returns its length in seconds."""
    reader = open_audio(audio, DecodeLimits())
    whole_s = reader.info.duration_s or answer.segments[-1][1]
    decoded = reader.read(Segment(start_s=0.0, end_s=whole_s))
    found = peaks(np.asarray(decoded.samples, np.float32))
    at_s = np.linspace(0, whole_s, found.size)
    axes.fill_between(at_s, -found, found, color=SOUND, linewidth=0)
    limit = max(float(found.max()), 1e-3)
    for window in answer.timeline or ():
        axes.axvspan(window.start_s, window.end_s, color=MEMBER, alpha=0.15)
        axes.text(
            window.start_s, limit, f"{window.genre} {window.probability:.0%}", fontsize=8,
            verticalalignment="bottom", rotation=20,
        )  # fmt: skip
    axes.set(xlim=(0, whole_s), ylim=(-limit, limit), xlabel="seconds", yticks=[], ylabel="sound")
    return whole_s


def _draw_windows(
    axes: Axes, features: TrackFeatures, answer: Prediction, mel: MelConfig, duration_s: float
) -> None:
    """The windows that were evaluated, each at its place."""
    evaluated = set(answer.segments)
    mel = mel.blocks[0]
    bands = mel.n_mels
    shown = features.log_mel[:, :bands]
    low, high = float(shown.min()), float(shown.max())
    for window, segment in zip(shown, features.facts.segments, strict=True):
        if (segment.start_s, segment.end_s) not in evaluated:
            continue
        axes.imshow(
            window.astype(np.float32), origin="lower", aspect="auto", vmin=low, vmax=high,
            extent=(segment.start_s, segment.end_s, 0, bands), cmap="magma",
        )  # fmt: skip
    hz = mel_band_edges_hz(mel)[1:-1]
    places = np.linspace(0, bands - 1, 5).round().astype(int)
    axes.set_yticks(places + 0.5, [f"{hz[place]:.0f}" for place in places])
    axes.set(xlim=(0, duration_s), xlabel="seconds", ylabel="Hz, as the model sees it")


def _draw_genres(axes: Axes, answer: Prediction) -> None:
    members = answer.prediction_set.genres if answer.prediction_set else ()
    names = [score.genre for score in answer.predictions]
    values = [score.probability for score in answer.predictions]
    colours = [MEMBER if name in members else OTHER for name in names]
    axes.barh(names, values, color=colours)
    axes.invert_yaxis()
    covered = f"; dark: {answer.prediction_set.coverage:.0%} set" if answer.prediction_set else ""
    axes.set(xlim=(0, 1), xlabel=f"calibrated probability{covered}")
