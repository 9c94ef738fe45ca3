"""Doing it again, after waits that grow, while another try may help."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from acoustic.errors import SourceCorruptError, SourceUnavailableError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

N_TRIES = 6
FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 10.0
MAY_PASS = (SourceUnavailableError, SourceCorruptError)

_random = random.Random()


def persist(work: Callable[[], Result]) -> Result:
    """The result of the first try that gives one.

    Args:
        work: may be done several times.

    Raises:
        AcousticError: what the last try raised, or one that no try can help.
    """
    for attempt in range(1, N_TRIES):
        try:
            return work()
        except MAY_PASS as error:
            logger.info("try failed attempt=%d code=%s", attempt, error.code)
        time.sleep(_wait_s(attempt))
    return work()


def _wait_s(attempt: int) -> float:
    """Twice as long each time, with jitter, so that many do not come back at once."""
    longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1))
    return _random.uniform(longest / 2, longest)
