"""CPU, memory and GPU metrics of a replica, with a fake NVML library."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from deployments.telemetry import resources
from deployments.telemetry.resources import ResourceMetrics


class Gauges:
    """Fake of Ray's gauges that keeps the last value of each."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def make(self, name: str, description: str) -> SimpleNamespace:
        return SimpleNamespace(set=lambda value: self.values.__setitem__(name, value))


@pytest.fixture
def gauges(monkeypatch: pytest.MonkeyPatch) -> Gauges:
    found = Gauges()
    monkeypatch.setattr(resources.metrics, "Gauge", found.make)
    return found


class FakeNvml(SimpleNamespace):
    """Fake NVML with GPUs that report different utilisation."""

    NVMLError = RuntimeError

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"index {index}"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(gpu={"index 0": 10, "index 1": 50, "GPU-x": 90}[handle])

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(used=7 << 30)


def test_cpu_and_memory_are_those_of_this_process(gauges: Gauges) -> None:
    ResourceMetrics().sample()
    assert 10e6 < gauges.values["acousticsense_process_memory_bytes"] < 100e9
    assert gauges.values["acousticsense_process_cpus"] >= 0
    assert "acousticsense_gpu_busy_ratio" not in gauges.values


@pytest.mark.parametrize(
    ("visible", "busy"), [("", 0.1), ("0", 0.1), ("1", 0.5), ("1,0", 0.5), ("GPU-x", 0.9)]
)
def test_the_gpu_is_the_one_that_the_replica_has(
    gauges: Gauges, monkeypatch: pytest.MonkeyPatch, visible: str, busy: float
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    ResourceMetrics(has_gpu=True).sample()
    assert gauges.values["acousticsense_gpu_busy_ratio"] == pytest.approx(busy)
    assert gauges.values["acousticsense_gpu_memory_bytes"] == 7 << 30


def test_without_the_library_there_are_no_gpu_series(
    gauges: Gauges, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    ResourceMetrics(has_gpu=True).sample()
    assert "acousticsense_gpu_busy_ratio" not in gauges.values
    assert "acousticsense_process_cpus" in gauges.values
