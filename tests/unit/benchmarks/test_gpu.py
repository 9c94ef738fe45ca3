"""The prepared script for a GPU runs through on a CPU, with everything tiny."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import gpu


def test_the_script_runs_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gpu.json"
    monkeypatch.setattr("sys.argv", ["gpu", "--device", "cpu", "--out", str(out)])
    gpu.main()
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(report["results"]) == {"vit_nano eager", "vit_b_16 eager"}
    for row in report["results"].values():
        assert row["max_difference"] < 0.02
        assert set(row["windows_per_s"]) == {"1", "2"}
        assert row["cores_to_feed"] > 0
    assert json.loads(out.read_text())["results"] == report["results"]


def test_what_does_not_fit_into_the_time_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["gpu", "--device", "cpu", "--minutes", "-1"])
    gpu.main()
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["results"] == {}
    assert report["left_out"] == ["vit_nano eager", "vit_b_16 eager"]
