"""Milliseconds per named step, for `timings_ms` in every reply and the profile command."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class StageTimer:
    """Adds up wall-clock milliseconds per step; must not be shared between threads."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the enclosed block under `name`; times under the same name add up."""
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed_ms = (time.perf_counter() - start) * 1e3
            self.timings_ms[name] = self.timings_ms.get(name, 0.0) + elapsed_ms
