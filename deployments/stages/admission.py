"""Admission by expected wait: a request that would wait too long is refused at once, not late.

A queue bounded by its length means seconds for one model and minutes for another. Here the wait is
estimated from the answers that were given: each of the n requests in flight takes one of the
intervals between two answers. Little's law in the form that needs no arrival rate.

Pure Python and no Ray; the clock is an argument.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from acoustic.errors import InputError, OverloadedError

ALWAYS_ADMITTED = 8
"""Up to this many requests in flight none is refused: the estimate corrects itself by answers."""

ALWAYS_COMPLETED = 16
"""Nor is a request whose body has arrived, up to this many: the files of a form come together."""

FEW = 4
"""With fewer requests in flight the service also waits for them, and not only they for it."""

N_INTERVALS = 32
"""Number of intervals between answers that are averaged, because a batch gives several at once;
those not known yet count as 0, because after the first batch only its long wait is known."""

MEMORY = 0.1
"""Weight of the newest answer in the average time that a request takes alone."""

MIN_RETRY_S = 1.0

PATIENCE_S, N_USUAL_TIMES = 10.0, 5
"""An answer is late after that many seconds, or that many times what a request usually takes now,
whichever is longer."""


class Admission:
    """Counts requests in flight of one model, and refuses those that would wait too long.

    Args:
        max_wait_s: longest expected wait of a request that is admitted, seconds.
        clock: seconds, rising.
    """

    def __init__(self, max_wait_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._alone_s: float | None = None
        self._intervals_s: deque[float] = deque(maxlen=N_INTERVALS)
        self._busy_since_s = 0.0  # or since the last answer
        self.n_in_flight = 0

    @property
    def expected_wait_s(self) -> float:
        """Seconds that a request would wait for those in flight; 0 until enough is known."""
        return self.n_in_flight * self._mean_interval_s

    @property
    def usual_s(self) -> float | None:
        """Seconds that a request usually takes now, its wait included; None until that is known."""
        if self._alone_s is None and not self._intervals_s:
            return None
        return (self._alone_s or 0.0) + self.expected_wait_s

    def check(self, n_always: int = ALWAYS_ADMITTED) -> None:
        """Raise if a request would be refused now; its body need not be read then.

        Args:
            n_always: requests in flight up to which none is refused.

        Raises:
            OverloadedError: with the seconds after which a retry has a chance.
        """
        wait_s = self.expected_wait_s
        if self.n_in_flight < n_always or wait_s <= self._max_wait_s:
            return
        raise OverloadedError(
            f"the service is busy: the expected wait is {wait_s:.1f} s, limit is "
            f"{self._max_wait_s:g} s; try again later",
            retry_after_s=max(MIN_RETRY_S, math.ceil(wait_s - self._max_wait_s)),
        )

    @contextmanager
    def admitted(self) -> Iterator[Callable[[], bool]]:
        """Count a request while it runs, and learn from it if it was answered.

        Yields:
            whether it is late by now, so that its answer may have been lost.

        Raises:
            OverloadedError: as `check`.
        """
        self.check(ALWAYS_COMPLETED)
        start_s = self._clock()
        self.n_in_flight += 1
        if self.n_in_flight == FEW:
            self._busy_since_s = start_s
        try:
            yield lambda: self._is_late(start_s)
            self._answered(start_s)
        except InputError:  # an answer, too, but one that says nothing of what others take
            self._answered()
            raise
        finally:
            self.n_in_flight -= 1

    @property
    def _mean_interval_s(self) -> float:
        """Between the last answers, the one that is running included."""
        running_s = self._clock() - self._busy_since_s if self.n_in_flight >= FEW else 0.0
        return (sum(self._intervals_s) + running_s) / N_INTERVALS

    def _is_late(self, start_s: float) -> bool:
        """Whether a request waits for much longer than others do now.

        Its age alone would say nothing: where all wait, one that is sent again makes it worse.
        """
        usual_s = self.usual_s
        waited_s = self._clock() - start_s
        return usual_s is not None and waited_s >= max(PATIENCE_S, N_USUAL_TIMES * usual_s)

    def _answered(self, start_s: float | None = None) -> None:
        now_s = self._clock()
        if self.n_in_flight >= FEW:
            self._intervals_s.append(now_s - self._busy_since_s)
            self._busy_since_s = now_s
        elif start_s is not None:
            self._alone(now_s - start_s)

    def _alone(self, took_s: float) -> None:
        if self._alone_s is None:
            self._alone_s = took_s
        self._alone_s += MEMORY * (took_s - self._alone_s)
        # Intervals of a slower past: one request alone takes as long as an interval, or longer.
        if took_s < self._mean_interval_s:
            self._intervals_s.clear()
