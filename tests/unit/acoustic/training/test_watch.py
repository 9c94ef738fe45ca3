"""The callback of a training: when it reports and saves, and which states it resumes from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from acoustic.classify.normalise import Scaling
from acoustic.errors import ConfigError
from acoustic.training.batches import BatchConfig
from acoustic.training.trainer import Progress, Recipe
from acoustic.training.watch import N_REPORTS, STATE_FILE, Report, Watch

RECIPE = Recipe(n_crops=1000, batches=BatchConfig(batch_size=10))


class FakeTrainer(SimpleNamespace):
    """A trainer with one number as its state."""

    def __init__(self, number: int = 0) -> None:
        super().__init__(recipe=RECIPE, device="cpu", average=None, number=number)

    def state_dict(self) -> dict[str, object]:
        return {"number": self.number}

    def load_state_dict(self, state: dict[str, int]) -> None:
        if state["number"] < 0:
            raise ValueError("it belongs to another model")
        self.number = state["number"]


def watch(out: Path, reports: list[Report], data: str = "data", number: int = 0) -> Watch:
    trainer = FakeTrainer(number)
    return Watch(trainer, Scaling(), [], out, data, reports.append)  # type: ignore[arg-type]


def step(n: int) -> Progress:
    return Progress(
        step=n, progress=n / RECIPE.n_steps, loss=1.23456, elapsed_s=2.0 * n, crops_per_s=5.04
    )


def test_a_whole_training_has_twenty_reports_ending_with_the_last_step(tmp_path: Path) -> None:
    reports: list[Report] = []
    made = watch(tmp_path, reports)
    for n in range(1, RECIPE.n_steps + 1):
        made(step(n))
    assert len(reports) == len(made.history) == N_REPORTS
    assert [report.n_crops for report in reports] == [50 * (i + 1) for i in range(N_REPORTS)]
    last = reports[-1]
    assert (last.progress, last.n_crops_total, last.accuracy) == (1.0, 1000, None)
    assert (last.loss, last.elapsed_s, last.crops_per_s) == (1.2346, 200.0, 5.0)


def test_the_state_is_saved_with_each_report_and_leaves_no_partial_file(tmp_path: Path) -> None:
    made = watch(tmp_path, [], number=7)
    made(step(1))
    assert list(tmp_path.iterdir()) == []
    made(step(5))
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


def test_the_state_is_saved_after_a_minute_without_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = watch(tmp_path, reports := [])
    now_s = made._saved_s
    monkeypatch.setattr("acoustic.training.watch.time.monotonic", lambda: now_s + 61.0)
    made(step(1))
    assert reports == []
    assert (tmp_path / STATE_FILE).exists()


def test_a_resumed_training_keeps_its_history_and_repeats_no_report(tmp_path: Path) -> None:
    first = watch(tmp_path, [], number=7)
    first(step(5))
    first(step(10))
    reports: list[Report] = []
    second = watch(tmp_path, reports)
    second.load()
    assert second._trainer.number == 7  # type: ignore[attr-defined]
    assert second.history == first.history
    assert second.cpu_minutes >= first._cpu_minutes_before
    second(step(10))
    assert reports == []
    second(step(15))
    assert [report.progress for report in reports] == [0.15]


@pytest.mark.parametrize(
    ("number", "data", "message"),
    [(7, "other", "on other data"), (-1, "data", "belongs to another model")],
)
def test_the_state_of_another_training_is_refused(
    tmp_path: Path, number: int, data: str, message: str
) -> None:
    watch(tmp_path, [], number=number).save()
    with pytest.raises(ConfigError, match=rf"cannot be resumed: .*{message}"):
        watch(tmp_path, [], data=data).load()


def test_a_missing_state_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no training_state\.pt .* omit --resume"):
        watch(tmp_path, []).load()


@pytest.mark.parametrize("n_bytes", [0, 10, 200])
def test_a_state_that_was_cut_off_is_refused(tmp_path: Path, n_bytes: int) -> None:
    watch(tmp_path, []).save()
    path = tmp_path / STATE_FILE
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(ConfigError, match="cannot be resumed"):
        watch(tmp_path, []).load()


def test_a_state_without_a_trainer_is_refused(tmp_path: Path) -> None:
    torch.save({"data": "data"}, tmp_path / STATE_FILE)
    with pytest.raises(ConfigError, match="cannot be resumed"):
        watch(tmp_path, []).load()
