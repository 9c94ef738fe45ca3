"""Retries: what is retried, how often, and how long the waits are. No test waits."""

from __future__ import annotations

import pytest

from acoustic.errors import (
    SourceCorruptError,
    SourceForbiddenError,
    SourceNotFoundError,
    SourceUnavailableError,
)
from deployments.batch import backoff
from deployments.batch.backoff import FIRST_WAIT_S, LONGEST_WAIT_S, N_TRIES, with_retries


@pytest.fixture
def waits_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of every wait, none of which happens."""
    found: list[float] = []
    monkeypatch.setattr(backoff.time, "sleep", found.append)
    return found


class Failing:
    """Work that fails with the given errors, one a call, and then returns "done"."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.n_calls = 0

    def __call__(self) -> str:
        self.n_calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def outage(n: int) -> list[Exception]:
    return [SourceUnavailableError(f"failure {i}") for i in range(n)]


def test_what_succeeds_does_not_wait(waits_s: list[float]) -> None:
    work = Failing()
    assert with_retries(work) == "done"
    assert (work.n_calls, waits_s) == (1, [])


@pytest.mark.parametrize("n_failures", range(1, N_TRIES))
def test_fewer_failures_than_tries_are_overcome(waits_s: list[float], n_failures: int) -> None:
    work = Failing(*outage(n_failures))
    assert with_retries(work) == "done"
    assert work.n_calls == n_failures + 1
    assert len(waits_s) == n_failures


def test_the_last_error_is_reported_without_another_wait(waits_s: list[float]) -> None:
    work = Failing(*outage(N_TRIES))
    with pytest.raises(SourceUnavailableError, match=f"failure {N_TRIES - 1}"):
        with_retries(work)
    assert work.n_calls == N_TRIES
    assert len(waits_s) == N_TRIES - 1


def test_different_errors_share_the_tries(waits_s: list[float]) -> None:
    work = Failing(SourceUnavailableError("down"), SourceCorruptError("half a file"))
    assert with_retries(work) == "done"
    assert work.n_calls == 3


@pytest.mark.parametrize(
    "error", [SourceNotFoundError("none"), SourceForbiddenError("no"), ValueError("bug"), OSError()]
)
def test_what_a_retry_cannot_fix_is_reported_at_once(
    waits_s: list[float], error: Exception
) -> None:
    work = Failing(error)
    with pytest.raises(type(error)):
        with_retries(work)
    assert (work.n_calls, waits_s) == (1, [])


def test_a_final_error_ends_the_retries(waits_s: list[float]) -> None:
    work = Failing(SourceUnavailableError("down"), SourceNotFoundError("gone"))
    with pytest.raises(SourceNotFoundError):
        with_retries(work)
    assert work.n_calls == 2


def test_waits_double_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff._random, "uniform", lambda low, high: high)
    longest_s = [backoff._wait_s(attempt) for attempt in range(1, 12)]
    expected_s = [min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**k) for k in range(11)]
    assert longest_s == expected_s
    assert longest_s[-1] == LONGEST_WAIT_S


def test_jitter_keeps_half_of_a_wait(waits_s: list[float]) -> None:
    for _ in range(50):
        with pytest.raises(SourceUnavailableError):
            with_retries(Failing(*outage(N_TRIES)))
    for k in range(N_TRIES - 1):
        of_attempt = waits_s[k :: N_TRIES - 1]
        longest_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**k)
        assert all(longest_s / 2 <= wait_s <= longest_s for wait_s in of_attempt)
        assert len(set(of_attempt)) > 1, "many clients would retry at the same moment"
