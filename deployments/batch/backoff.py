"""Retries with exponential backoff and jitter."""

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
RETRYABLE_ERRORS = (SourceUnavailableError, SourceCorruptError)

_random = random.Random()


def with_retries(work: Callable[[], Result]) -> Result:
    """Result of the first attempt that succeeds, of N_TRIES.

    Args:
        work: function without arguments; it may be called several times.

    Raises:
        AcousticError: the error of the last attempt, or one that a retry cannot fix.
    """
    for attempt in range(1, N_TRIES):
        try:
            return work()
        except RETRYABLE_ERRORS as error:
            logger.info("retrying attempt=%d code=%s", attempt, error.code)
        time.sleep(_wait_s(attempt))
    return work()


def _wait_s(attempt: int) -> float:
    """Seconds to wait: doubled each time, with jitter so that many clients do not retry at once."""
    longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1))
    return _random.uniform(longest / 2, longest)
