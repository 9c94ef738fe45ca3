"""Use of the machine: numbers in their ranges; a GPU that does not answer is left out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import psutil
import pytest

from acoustic import resources
from acoustic.resources import snapshot, usable_cpus

PEAK = "from acoustic.resources import peak_rss_mb; print(peak_rss_mb())"


class _NvmlError(Exception):
    pass


def fake_nvml(n_gpus: int, is_driver_there: bool = True) -> ModuleType:
    """pynvml on a machine whose GPU number i uses i + 1 of 80 GB at 10 · i percent."""

    def init() -> None:
        if not is_driver_there:
            raise _NvmlError("driver not loaded")

    module = ModuleType("pynvml")
    names = {
        "NVMLError": _NvmlError,
        "nvmlInit": init,
        "nvmlDeviceGetCount": lambda: n_gpus,
        "nvmlDeviceGetHandleByIndex": lambda i: i,
        "nvmlDeviceGetMemoryInfo": lambda i: SimpleNamespace(
            used=(i + 1) * 10**9, total=80 * 10**9
        ),
        "nvmlDeviceGetName": lambda i: f"GPU {i}",
        "nvmlDeviceGetUtilizationRates": lambda i: SimpleNamespace(gpu=10 * i),
    }
    for name, value in names.items():
        setattr(module, name, value)
    return module


def test_cpu_and_memory_are_within_what_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)  # an import of it fails
    found = snapshot()
    assert 0 <= found["cpu_percent"] <= 100
    assert 0 < found["memory_percent"] < 100
    assert 0 < found["memory_used_gb"] * 1e9 < psutil.virtual_memory().total
    assert found["gpu_info"] == []
    json.dumps(found, allow_nan=False)


def test_every_gpu_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(2))
    assert snapshot()["gpu_info"] == [
        {
            "id": i,
            "name": f"GPU {i}",
            "utilization_percent": 10 * i,
            "memory_used_gb": i + 1.0,
            "memory_total_gb": 80.0,
        }
        for i in range(2)
    ]


def test_a_library_without_a_driver_is_a_machine_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(1, is_driver_there=False))
    assert snapshot()["gpu_info"] == []


def test_the_peak_is_that_of_the_process_itself_not_of_the_one_that_started_it() -> None:
    large = "import os, sys; held = bytearray(os.urandom(1)) * (300 << 20)"
    child = f"import subprocess; subprocess.run([sys.executable, '-c', {PEAK!r}], check=True)"
    lines = subprocess.run(
        [sys.executable, "-c", f"{large}; {PEAK}; sys.stdout.flush(); {child}"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    of_parent, of_child = map(float, lines)
    assert of_parent > 300
    assert 5 < of_child < 200


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("200000 100000\n", 2), ("150000 100000\n", 2), ("10000 100000\n", 1), ("max 100000\n", 6)],
)
def test_a_container_may_use_what_its_quota_allows(
    quota: str, expected: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    monkeypatch.setattr(resources, "CGROUP_QUOTA", tmp_path / "cpu.max")
    assert usable_cpus() == 6  # outside a container
    (tmp_path / "cpu.max").write_text(quota)
    assert usable_cpus() == expected
