"""A fake of Ray's metrics that keeps what is recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any


class Recorded:
    """Stands in for `ray.serve.metrics`: one list of (value, label values) per series."""

    def __init__(self) -> None:
        self.values: dict[str, list[tuple[float, tuple[str, ...]]]] = defaultdict(list)
        self.boundaries: dict[str, list[float]] = {}

    def _series(self, name: str, tag_keys: tuple[str, ...]) -> Callable[..., None]:
        def record(value: float = 1.0, tags: Mapping[str, str] | None = None) -> None:
            assert tuple(tags or {}) == tag_keys, f"{name} has the labels {tag_keys}"
            self.values[name].append((value, tuple((tags or {}).values())))

        return record

    def Counter(self, name: str, description: str, tag_keys: tuple[str, ...] = ()) -> Any:
        return SimpleNamespace(inc=self._series(name, tag_keys))

    def Gauge(self, name: str, description: str, tag_keys: tuple[str, ...] = ()) -> Any:
        return SimpleNamespace(set=self._series(name, tag_keys))

    def Histogram(
        self,
        name: str,
        description: str,
        boundaries: list[float],
        tag_keys: tuple[str, ...] = (),
    ) -> Any:
        self.boundaries[name] = boundaries
        return SimpleNamespace(observe=self._series(name, tag_keys))

    def of(self, name: str) -> list[float]:
        """The values of one series, in order."""
        return [value for value, _ in self.values["acousticsense_" + name]]

    def labels(self, name: str) -> list[tuple[str, ...]]:
        """The label values of one series, in order."""
        return [labels for _, labels in self.values["acousticsense_" + name]]
