"""What is measured of one call of a batch function; no Ray."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchFacts:
    """Size and timing of one call of the batch function.

    Attributes:
        n_items: number of items in the call.
        size: sum of the items' sizes.
        waits_s: seconds from the arrival of each item to the start of the call.
        run_s: seconds that the call took.
    """

    n_items: int
    size: int
    waits_s: tuple[float, ...]
    run_s: float
