"""Markdown tables, and text of values with their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Format rows as a Markdown table, without a line break at its end."""
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def interval(value: dict[str, float] | None) -> str:
    """Format a value with its interval, e.g. 0.690 (0.645–0.735); "–" for None."""
    if value is None:
        return "–"
    return f"{value['value']:.3f} ({value['low']:.3f}–{value['high']:.3f})"
