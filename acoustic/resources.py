"""What this machine is using now: the guide's resource monitor (its section 2.2) as one call."""

from __future__ import annotations

import ctypes
import os
import resource
from pathlib import Path
from typing import Any

import psutil

BYTES_PER_GB = 1e9

CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""CPU time and period of a container, microseconds, as the Linux kernel states them."""


def snapshot() -> dict[str, Any]:
    """CPU, memory and GPU use of the whole machine.

    Returns:
        cpu_percent: use of all cores since the last call, in [0, 100]; 0.0 at the first call.
        memory_percent: share of the memory in use, in [0, 100].
        memory_used_gb: memory in use, GB.
        gpu_info: one entry per NVIDIA GPU: id, name, utilization_percent, memory_used_gb and
            memory_total_gb; [] without a GPU or without the extra acousticsense[gpu].
    """
    memory = psutil.virtual_memory()
    return {
        "cpu_percent": psutil.cpu_percent(),
        "memory_percent": memory.percent,
        "memory_used_gb": round(memory.used / BYTES_PER_GB, 3),
        "gpu_info": _gpus(),
    }


def usable_cpus() -> int:
    """Number of CPU threads that this process may use: within its affinity and its cgroup's quota.

    A container on a large machine is often allowed a few of its CPUs; more threads would wait for
    each other.
    """
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota_us, period_us = CGROUP_QUOTA.read_text(encoding="ascii").split()
        return min(n, max(1, round(int(quota_us) / int(period_us))))
    except (OSError, ValueError):  # no cgroup, or "max"
        return n


def peak_rss_mb() -> float:
    """Most resident memory that this process ever had, MiB.

    On Linux not by `getrusage`, whose peak begins with that of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return float(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)  # macOS: bytes


def give_memory_back() -> None:
    """Return freed memory to the system, where the C library is glibc; it keeps it otherwise.

    Freed blocks below others in use stay with a process, and so would the pieces in which a large
    upload came.
    """
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another platform or C library
        return


def _gpus() -> list[dict[str, Any]]:
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
        return [_gpu(pynvml, i) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:  # no driver, or a device that answers no query
        return []


def _gpu(nvml: Any, index: int) -> dict[str, Any]:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return {
        "id": index,
        "name": nvml.nvmlDeviceGetName(handle),
        "utilization_percent": nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
        "memory_used_gb": round(memory.used / BYTES_PER_GB, 3),
        "memory_total_gb": round(memory.total / BYTES_PER_GB, 3),
    }
