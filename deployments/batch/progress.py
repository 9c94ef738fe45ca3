"""Progress of a batch job: a bar on a terminal, lines in a log, JSON lines, or nothing."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from acoustic.resources import snapshot
from deployments.batch.job_options import Progress as Style

LINE_EVERY_S = 10.0


@dataclass(kw_only=True, slots=True)
class Totals:
    """Counts and times of this run so far.

    Attributes:
        n_files: number of rows written.
        n_errors: number of error rows among them.
        read_bytes: bytes read from the files.
        size_bytes: sum of the files' sizes, in bytes.
        stage_s: stage → seconds of work, over all processes.
        begun_s: start of the run, in seconds of the monotonic clock.
        first_part_s: time of the first finished part, in seconds of the monotonic clock, or None.
        n_first: number of rows in the first part.
    """

    n_files: int = 0
    n_errors: int = 0
    read_bytes: int = 0
    size_bytes: int = 0
    stage_s: Counter[str] = field(default_factory=Counter)
    begun_s: float = field(default_factory=time.monotonic)
    first_part_s: float | None = None
    n_first: int = 0

    def add(self, part: dict[str, Any]) -> None:
        """Add the counts and costs of one part, as `parts.write` returns them."""
        self.n_files += part["n_files"]
        self.n_errors += part["n_errors"]
        self.read_bytes += part["read_bytes"]
        self.size_bytes += part["size_bytes"]
        for stage in ("preprocess", "classify", "write"):
            self.stage_s[stage] += part[f"{stage}_s"]
        if self.first_part_s is None:
            self.first_part_s, self.n_first = time.monotonic(), part["n_files"]

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.begun_s

    @property
    def steady_files_per_s(self) -> float | None:
        """Files per second without the start-up of the processes; None with only one part."""
        # the first part includes the start-up, so the rate is measured from its end
        if self.first_part_s is None or self.n_files == self.n_first:
            return None
        return (self.n_files - self.n_first) / (time.monotonic() - self.first_part_s)

    def to_dict(self, n_wanted: int) -> dict[str, Any]:
        """Counts, rates and estimated time left, for a log line.

        Args:
            n_wanted: number of files of this run.
        """
        rate = self.n_files / max(self.elapsed_s, 1e-9)
        return {
            "files": self.n_files,
            "of": n_wanted,
            "errors": self.n_errors,
            "files_per_s": round(rate, 2),
            "mb_per_s": round(self.read_bytes / 1e6 / max(self.elapsed_s, 1e-9), 2),
            "eta_s": round((n_wanted - self.n_files) / rate) if rate > 0 else None,
            "stage_s": {name: round(value, 2) for name, value in self.stage_s.items()},
            "resources": snapshot(),
        }


class ProgressReport:
    """Context manager that shows the totals after every part.

    Args:
        style: "plain", "json" or "quiet"; "auto" is a bar on a terminal, plain lines elsewhere.
        n_wanted: number of files of this run.
    """

    def __init__(self, style: Style, n_wanted: int) -> None:
        is_terminal = sys.stderr.isatty()
        self._style = ("bar" if is_terminal else "plain") if style == "auto" else style
        self._n_wanted = n_wanted
        self._last_s = 0.0
        self._bar: Any = None

    def __enter__(self) -> ProgressReport:
        if self._style == "bar":
            from rich.console import Console
            from rich.progress import Progress, TimeRemainingColumn

            self._bar = Progress(
                *Progress.get_default_columns()[:2],
                "{task.completed} of {task.total} files, {task.fields[rate]:.1f}/s, "
                "{task.fields[errors]} errors",
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("classify", total=self._n_wanted, rate=0.0, errors=0)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, totals: Totals) -> None:
        """Show the totals after a part; lines are printed every LINE_EVERY_S and at the end."""
        line = totals.to_dict(self._n_wanted)
        if self._bar is not None:
            self._bar.update(
                self._task, completed=totals.n_files, rate=line["files_per_s"],
                errors=totals.n_errors,
            )  # fmt: skip
            return
        is_due = time.monotonic() - self._last_s >= LINE_EVERY_S
        if self._style == "quiet" or not (is_due or totals.n_files >= self._n_wanted):
            return
        self._last_s = time.monotonic()
        text = json.dumps(line) if self._style == "json" else _plain(line)
        print(text, file=sys.stderr, flush=True)


def _plain(line: dict[str, Any]) -> str:
    eta = "" if line["eta_s"] is None else f", {line['eta_s']} s left"
    resources = line["resources"]
    return (
        f"{line['files']} of {line['of']} files, {line['errors']} errors, "
        f"{line['files_per_s']} files/s, {line['mb_per_s']} MB/s, "
        f"CPU {resources['cpu_percent']:.0f} %, memory {resources['memory_used_gb']:.1f} GB{eta}"
    )
