"""Callback of a training: validates, reports progress, and saves the state for a resume."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from acoustic.classify.normalise import Scaling
from acoustic.classify.vit import VisionTransformer
from acoustic.data.dataset import Clip
from acoustic.errors import ConfigError
from acoustic.training.trainer import Progress, Trainer
from acoustic.training.validate import validation_accuracy

STATE_FILE = "training_state.pt"
N_REPORTS = 20
SAVE_EVERY_S = 60.0
MAX_VALIDATION_RATIO = 0.1
"""Maximum share of the training time for validation, roughly, however large the valid split is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """One progress report.

    Attributes:
        n_crops: number of crops trained on so far.
        n_crops_total: number of crops of the whole schedule, unless the time limit comes first.
        progress: share of the schedule done, in [0, 1].
        loss: moving average of the training loss.
        accuracy: accuracy of the averaged model on the valid clips, or None without valid clips.
        elapsed_s: training time in seconds, over all interruptions.
        crops_per_s: crops per second since the training was started or resumed.
    """

    n_crops: int
    n_crops_total: int
    progress: float
    loss: float
    accuracy: float | None
    elapsed_s: float
    crops_per_s: float


class Watch:
    """Callback after every training step: validates, reports and saves when due.

    Args:
        trainer: trainer whose model is validated and whose state is saved.
        scaling: input normalisation of the checkpoint.
        valid: clips to validate on; may be empty.
        out: folder of the state file.
        data: digest of the training data; a state of other data is rejected.
        on_report: callback for reports, called about N_REPORTS times.
    """

    def __init__(
        self,
        trainer: Trainer[VisionTransformer],
        scaling: Scaling,
        valid: Sequence[Clip],
        out: Path,
        data: str,
        on_report: Callable[[Report], None],
    ) -> None:
        self._trainer = trainer
        self._scaling = scaling
        self._valid = valid
        self._path = out / STATE_FILE
        self._data = data
        self._on_report = on_report
        self._saved_s = time.monotonic()
        self._begun_cpu_s = time.process_time()
        self._cpu_minutes_before = 0.0
        self._reached = 0
        self._validating_s = 0.0
        self.history: list[dict[str, Any]] = []

    @property
    def cpu_minutes(self) -> float:
        """CPU time of the training in minutes, over all interruptions."""
        return self._cpu_minutes_before + (time.process_time() - self._begun_cpu_s) / 60

    def __call__(self, progress: Progress) -> None:
        """Validate, report and save if it is due."""
        reached = int(progress.progress * N_REPORTS)
        # A report is skipped while validation is over its share of the time, except the last one.
        affordable = self._validating_s <= MAX_VALIDATION_RATIO * progress.elapsed_s
        due = reached > self._reached and (affordable or progress.progress >= 1)
        if due:
            self._reached = reached
            report = self._report(progress)
            self.history.append(asdict(report))
            self._on_report(report)
        if due or time.monotonic() - self._saved_s > SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Write the state to disk atomically."""
        state = {
            "trainer": self._trainer.state_dict(),
            "data": self._data,
            "history": self.history,
            "reached": self._reached,
            "cpu_minutes": self.cpu_minutes,
        }
        partial = self._path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self._path)
        self._saved_s = time.monotonic()

    def load(self) -> None:
        """Resume from the state on disk.

        Raises:
            ConfigError: there is no state, or it belongs to another training.
        """
        try:
            state = torch.load(self._path, weights_only=True, map_location=self._trainer.device)
            if state["data"] != self._data:
                raise ValueError("it belongs to a training on other data")
            self._trainer.load_state_dict(state["trainer"])
            self.history = state["history"]
            self._reached = state["reached"]
            self._cpu_minutes_before = state["cpu_minutes"]
        except FileNotFoundError:
            raise ConfigError(
                f"there is no {STATE_FILE} in {self._path.parent} to resume: omit --resume"
            ) from None
        except (ValueError, KeyError, TypeError, EOFError, RuntimeError, UnpicklingError) as error:
            raise ConfigError(f"{self._path} cannot be resumed: {error}") from error

    def _report(self, progress: Progress) -> Report:
        recipe = self._trainer.recipe
        return Report(
            n_crops=progress.step * recipe.batches.batch_size,
            n_crops_total=recipe.n_steps * recipe.batches.batch_size,
            progress=progress.progress,
            loss=round(progress.loss, 4),
            accuracy=self._validate() if self._valid else None,
            elapsed_s=round(progress.elapsed_s, 1),
            crops_per_s=round(progress.crops_per_s, 1),
        )

    def _validate(self) -> float:
        begun_s = time.monotonic()
        accuracy = validation_accuracy(
            self._trainer.average,
            self._scaling,
            self._valid,
            device=self._trainer.device,
            precision=self._trainer.recipe.precision,
        )
        self._validating_s += time.monotonic() - begun_s
        return accuracy
