"""One clip with its stored windows and logits: every stage is checked by it before it answers.

A checkpoint whose files are whole may still be wrong: weights that were damaged before they were
hashed, a front end that has changed, a driver or a library that computes something else. The clip
is made up in code, so a checkpoint holds no sound.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile as sf
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.errors import CheckpointError
from acoustic.request import Effort
from acoustic.types import WindowValues

logger = logging.getLogger(__name__)

GOLDEN_FILE = "golden.safetensors"
CLIP_S, CLIP_RATE = 20.0, 22_050
CHORD_HZ = (220.0, 277.18, 329.63)  # A3, C#4, E4
BEAT_S = 0.5
EFFORT: Effort = "balanced"

MAX_LEVEL_DIFFERENCE = 2
"""Largest difference of uint8 levels; other libraries round otherwise."""

MAX_ABSOLUTE_DIFFERENCE = 0.05
"""Largest difference of absolute levels, in the unit of the front end."""

MAX_PROBABILITY_DIFFERENCE = 0.05
"""Largest difference of a probability: int8, bf16 and fp16 move it by up to 0.02."""


def save_golden(
    folder: CheckpointFolder, windows: WindowValues, logits: npt.NDArray[np.float32]
) -> None:
    """Store what stage 1 and the model in float32 make of the clip, in a checkpoint's folder.

    Args:
        folder: the checkpoint.
        windows: (S, M, T) windows of the clip.
        logits: (S, C) float32 logits of the windows.
    """
    metadata = {"checkpoint_digest": folder.digest}
    # contiguous: safetensors writes the memory of an array, not its elements
    arrays = {"windows": windows, "logits": logits}
    contiguous = {name: np.ascontiguousarray(each) for name, each in arrays.items()}
    stored = save(contiguous, metadata=metadata)
    (folder.path / GOLDEN_FILE).write_bytes(stored)


def golden_clip() -> bytes:
    """The clip, a chord on every beat, as the bytes of a WAV file.

    Its windows are those of effort EFFORT. It never changes: checkpoints have its answer.
    """
    t = np.arange(round(CLIP_S * CLIP_RATE)) / CLIP_RATE
    chord = sum(np.sin(2 * np.pi * hz * t) for hz in CHORD_HZ) / len(CHORD_HZ)
    bass = np.sin(2 * np.pi * CHORD_HZ[0] / 4 * t)
    clip = 0.35 * np.exp(-6.0 * (t % BEAT_S)) * chord + 0.15 * bass
    file = io.BytesIO()
    sf.write(file, clip.astype(np.float32), CLIP_RATE, format="WAV")
    return file.getvalue()


def golden_windows(folder: CheckpointFolder) -> WindowValues | None:
    """(S, M, T) windows of the clip that are stored, None where there are none.

    Raises:
        CheckpointError: the file cannot be read, or is of another model.
    """
    golden = _read(folder)
    return None if golden is None else golden[0]


def check_windows(folder: CheckpointFolder, found: WindowValues) -> None:
    """Raise if stage 1 makes other windows of the clip than those that are stored.

    Args:
        folder: the checkpoint; nothing is checked where it has no golden clip.
        found: (S, M, T) windows of the clip, not enhanced.

    Raises:
        CheckpointError: the windows differ by more than rounding.
    """
    golden = _read(folder)
    if golden is None:
        return
    windows, _ = golden
    limit = MAX_ABSOLUTE_DIFFERENCE if windows.dtype == np.float16 else MAX_LEVEL_DIFFERENCE
    if found.shape != windows.shape:
        difference = np.inf
    else:
        difference = float(np.abs(found.astype(np.float32) - windows.astype(np.float32)).max())
    if not difference <= limit:  # NaN differs, too
        raise CheckpointError(
            f"stage 1 makes other windows of the golden clip: they differ by {difference:g}, limit "
            f"is {limit:g}"
        )


def check_logits(
    folder: CheckpointFolder, logits_of: Callable[[WindowValues], npt.NDArray[np.float32]]
) -> None:
    """Raise if the model says something else about the clip than what is stored.

    Args:
        folder: the checkpoint; nothing is checked where it has no golden clip.
        logits_of: the model: (S, M, T) windows to (S, C) logits.

    Raises:
        CheckpointError: a probability differs by more than reduced precision explains.
    """
    golden = _read(folder)
    if golden is None:
        return
    windows, logits = golden
    found = _softmax(logits_of(windows))
    difference = float(np.abs(found - _softmax(logits)).max())
    if not difference <= MAX_PROBABILITY_DIFFERENCE:  # NaN differs, too
        raise CheckpointError(
            f"the model says something else about the golden clip: a probability differs by "
            f"{difference:.3f}, limit is {MAX_PROBABILITY_DIFFERENCE:g}"
        )


def _read(folder: CheckpointFolder) -> tuple[WindowValues, npt.NDArray[np.float32]] | None:
    path = Path(folder.path) / GOLDEN_FILE
    if not path.exists():
        logger.warning("checkpoint %s has no golden clip: it is not checked", folder.path.name)
        return None
    try:
        with safe_open(path, "np") as file:
            digest = (file.metadata() or {}).get("checkpoint_digest", "")
            windows, logits = file.get_tensor("windows"), file.get_tensor("logits")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{GOLDEN_FILE} cannot be used: {error}") from error
    if digest != folder.digest:
        raise CheckpointError(
            f"{GOLDEN_FILE} is of model {digest}, this one is {folder.digest}: run "
            "`acousticsense calibrate`"
        )
    return windows, logits


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(shifted)
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))
