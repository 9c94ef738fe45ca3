"""Admission by expected wait: a request that would wait too long is refused at once, not late.

A queue bounded by its length means seconds for one model and minutes for another. Here the wait is
estimated from requests that were answered: with n others in flight at its start, one took about
`base + n · period` seconds. Little's law in the form that needs no arrival rate.

Pure Python and no Ray; the clock is an argument.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from acoustic.errors import OverloadedError

ALWAYS_ADMITTED = 16
"""Up to this many requests in flight none is refused: the estimate corrects itself by answers."""

FEW = 4
"""A request with fewer others in flight updates the base; with more, the period."""

MEMORY = 0.1
"""Weight of the newest answer in the moving averages."""

MIN_RETRY_S = 1.0


class Admission:
    """Counts requests in flight of one model, and refuses those that would wait too long.

    Args:
        max_wait_s: longest expected wait of a request that is admitted, seconds.
        clock: seconds, rising.
    """

    def __init__(self, max_wait_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._base_s: float | None = None
        self._period_s: float | None = None
        self.n_in_flight = 0

    @property
    def expected_wait_s(self) -> float:
        """Seconds that a request would wait for those in flight; 0 until enough is known."""
        return self.n_in_flight * (self._period_s or 0.0)

    @property
    def usual_s(self) -> float | None:
        """Seconds that a request usually takes now, its wait included; None until that is known."""
        return None if self._base_s is None else self._base_s + self.expected_wait_s

    def check(self) -> None:
        """Raise if a request would be refused now; its body need not be read then.

        Raises:
            OverloadedError: with the seconds after which a retry has a chance.
        """
        wait_s = self.expected_wait_s
        if self.n_in_flight < ALWAYS_ADMITTED or wait_s <= self._max_wait_s:
            return
        raise OverloadedError(
            f"the service is busy: the expected wait is {wait_s:.1f} s, limit is "
            f"{self._max_wait_s:g} s; try again later",
            retry_after_s=max(MIN_RETRY_S, math.ceil(wait_s - self._max_wait_s)),
        )

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request while it runs, and learn from the time it took if it was answered.

        Raises:
            OverloadedError: as `check`.
        """
        self.check()
        n_others, start_s = self.n_in_flight, self._clock()
        self.n_in_flight += 1
        try:
            yield
        finally:
            self.n_in_flight -= 1
        self._learn(n_others, self._clock() - start_s)

    def _learn(self, n_others: int, took_s: float) -> None:
        if n_others < FEW:
            self._base_s = _moved(self._base_s, took_s)
            if self._period_s is not None:  # from a slower past: one alone takes a period at least
                self._period_s = min(self._period_s, took_s)
            return
        period_s = max(0.0, took_s - (self._base_s or 0.0)) / n_others
        self._period_s = _moved(self._period_s, period_s)


def _moved(average: float | None, value: float) -> float:
    return value if average is None else average + MEMORY * (value - average)
