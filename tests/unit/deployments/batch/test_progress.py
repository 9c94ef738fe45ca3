"""Progress of a batch job: totals, rates and the lines on standard error, by a fake clock."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from deployments.batch import progress
from deployments.batch.progress import LINE_EVERY_S, ProgressReport, Totals

RESOURCES = {
    "cpu_percent": 51.0, "memory_percent": 10.0, "memory_used_gb": 2.5, "gpu_info": [],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _fixed_resources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "snapshot", lambda: RESOURCES)


class Clock:
    """Monotonic clock that only moves when a test moves it."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    return found


@pytest.fixture
def totals(clock: Clock) -> Totals:
    return Totals(begun_s=clock.now_s)


def part(n_files: int, n_errors: int = 0) -> dict[str, object]:
    return {
        "n_files": n_files,
        "n_errors": n_errors,
        "read_bytes": 1_000_000 * n_files,
        "size_bytes": 2_000_000 * n_files,
        "preprocess_s": 0.5 * n_files,
        "classify_s": 0.25 * n_files,
        "write_s": 0.125,
    }


def test_totals_are_sums_over_parts(totals: Totals) -> None:
    totals.add(part(4, 1))
    totals.add(part(6))
    assert (totals.n_files, totals.n_errors) == (10, 1)
    assert (totals.read_bytes, totals.size_bytes) == (10_000_000, 20_000_000)
    assert totals.stage_s == {"preprocess": 5.0, "classify": 2.5, "write": 0.25}


def test_rates_and_the_time_left_follow_from_the_clock(totals: Totals, clock: Clock) -> None:
    clock.now_s += 5
    totals.add(part(10, 2))
    assert totals.to_dict(n_wanted=40) == {
        "files": 10, "of": 40, "errors": 2, "files_per_s": 2.0, "mb_per_s": 2.0, "eta_s": 15,
        "stage_s": {"preprocess": 5.0, "classify": 2.5, "write": 0.12}, "resources": RESOURCES,
    }  # fmt: skip


def test_before_the_first_part_nothing_is_estimated(totals: Totals) -> None:
    line = totals.to_dict(n_wanted=7)
    assert line["eta_s"] is None
    assert line["files_per_s"] == line["mb_per_s"] == 0
    assert totals.steady_files_per_s is None


def test_the_steady_rate_leaves_out_the_start_up(totals: Totals, clock: Clock) -> None:
    clock.now_s += 100
    totals.add(part(10))
    assert totals.steady_files_per_s is None
    clock.now_s += 5
    totals.add(part(20))
    assert totals.steady_files_per_s == 4.0
    assert totals.to_dict(30)["files_per_s"] == pytest.approx(30 / 105, abs=0.005)


def report_lines(
    style: str, totals: Totals, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """Lines of a run of 12 parts that take a quarter of LINE_EVERY_S each."""
    with ProgressReport(style, 24) as shown:  # type: ignore[arg-type]
        for _ in range(12):
            clock.now_s += LINE_EVERY_S / 4
            totals.add(part(2))
            shown.update(totals)
    output = capsys.readouterr()
    assert output.out == "", "standard output belongs to the report"
    return output.err.splitlines()


def test_plain_lines_come_at_intervals_and_at_the_end(
    totals: Totals, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = report_lines("plain", totals, clock, capsys)
    assert [line.split(" files")[0] for line in lines] == ["2 of 24", "10 of 24", "18 of 24",
                                                          "24 of 24"]  # fmt: skip
    assert lines[1].startswith("10 of 24 files, 0 errors, 0.8 files/s, 0.8 MB/s, CPU 51 %, ")
    assert lines[1].endswith("memory 2.5 GB, 18 s left")


def test_json_lines_hold_the_same_totals(
    totals: Totals, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.loads(line) for line in report_lines("json", totals, clock, capsys)]
    assert [line["files"] for line in lines] == [2, 10, 18, 24]
    assert lines[-1] == totals.to_dict(24)
    assert lines[-1]["eta_s"] == 0


def test_quiet_prints_nothing(
    totals: Totals, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report_lines("quiet", totals, clock, capsys) == []


def test_without_a_terminal_auto_is_plain(
    totals: Totals, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(report_lines("auto", totals, clock, capsys)) == 4


def test_no_rate_means_no_time_left(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressReport("plain", 3) as shown:
        shown.update(Totals(begun_s=clock.now_s))
    assert capsys.readouterr().err == (
        "0 of 3 files, 0 errors, 0.0 files/s, 0.0 MB/s, CPU 51 %, memory 2.5 GB\n"
    )


def test_a_terminal_gets_one_bar(
    totals: Totals,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    is_terminal = SimpleNamespace(isatty=lambda: True)
    with monkeypatch.context() as patch:
        patch.setattr(progress.sys, "stderr", is_terminal)
        shown = ProgressReport("auto", 24)
    with shown:
        totals.add(part(24, 5))
        shown.update(totals)
        assert shown._bar.tasks[0].completed == shown._bar.tasks[0].total == 24
        assert shown._bar.tasks[0].fields["errors"] == 5
    assert shown._bar.live.is_started is False
    assert "24 of 24 files" in capsys.readouterr().err


def test_the_bar_stops_when_the_job_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(progress.sys, "stderr", SimpleNamespace(isatty=lambda: True))
        shown = ProgressReport("auto", 24)
    with pytest.raises(RuntimeError), shown:
        raise RuntimeError("job failed")
    assert shown._bar.live.is_started is False
