"""Runs a batch so that an item that fails does not fail the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_bisecting(
    run: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]
) -> list[Result | Exception]:
    """Results in the order of the items; an item that fails alone gives its exception.

    Args:
        run: turns items into as many results in the same order.
        items: items of the batch, at least one.
    """
    try:
        results = list(run(items))
        if len(results) != len(items):
            raise ValueError(f"{len(results)} results for {len(items)} items")
        return [*results]
    except Exception as error:  # an edge: any failure of the model becomes the item's own
        if len(items) == 1:
            logger.exception("item failed alone")
            return [error]
    logger.warning("batch failed n_items=%d, splitting", len(items))
    middle = len(items) // 2  # one bad item among n costs about 2 log2(n) more calls
    return run_bisecting(run, items[:middle]) + run_bisecting(run, items[middle:])
