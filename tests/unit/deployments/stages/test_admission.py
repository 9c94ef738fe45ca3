"""Refusal by expected wait, on a simulated service and a simulated clock."""

from __future__ import annotations

import heapq
from contextlib import ExitStack

import pytest

from acoustic.errors import OverloadedError
from deployments.stages.admission import ALWAYS_ADMITTED, Admission

BASE_S, PERIOD_S = 0.1, 0.04


class Simulated:
    """A service that answers one request every period, in order, after the base."""

    def __init__(self, period_s: float = PERIOD_S, max_wait_s: float = 3.0) -> None:
        self.now_s = 0.0
        self.period_s = period_s
        self.admission = Admission(max_wait_s, lambda: self.now_s)
        self.waits_s: list[float] = []
        self.retries_s: list[float] = []
        self.n_refused = 0
        self._free_s = 0.0
        self._running: list[tuple[float, int, ExitStack]] = []
        self._n = 0

    def arrive(self, at_s: float) -> None:
        self._finish_until(at_s)
        self.now_s = at_s
        stack = ExitStack()
        try:
            stack.enter_context(self.admission.admitted())
        except OverloadedError as error:
            self.retries_s.append(error.retry_after_s)
            self.n_refused += 1
            return
        self._free_s = max(self._free_s, at_s) + self.period_s
        done_s = self._free_s + BASE_S
        self.waits_s.append(done_s - at_s)
        self._n += 1
        heapq.heappush(self._running, (done_s, self._n, stack))

    def _finish_until(self, at_s: float) -> None:
        while self._running and self._running[0][0] <= at_s:
            self.now_s, _, stack = heapq.heappop(self._running)
            stack.close()

    def load(self, rate: float, seconds: float, start_s: float = 0.0) -> None:
        for i in range(int(rate * seconds)):
            self.arrive(start_s + i / rate)


def test_below_capacity_nothing_is_refused() -> None:
    service = Simulated()
    service.load(20, 60)
    assert service.n_refused == 0


@pytest.mark.parametrize("factor", [1.5, 5.0])
def test_above_capacity_the_wait_stays_at_the_limit_and_the_service_busy(factor: float) -> None:
    service = Simulated()
    service.load(factor / PERIOD_S, 60)
    assert max(service.waits_s) < 1.3 * 3.0 + BASE_S
    assert len(service.waits_s) >= 0.95 * 60 / PERIOD_S
    assert service.n_refused > 0
    assert min(service.retries_s) >= 1


def test_a_burst_on_an_idle_service_is_taken() -> None:
    service = Simulated()
    service.load(5, 10)
    for _ in range(60):
        service.arrive(20.0)
    assert service.n_refused == 0


def test_a_few_are_always_admitted_and_the_estimate_recovers() -> None:
    """A slow model holds 32 requests whatever they wait; once it is fast, more are taken."""
    service = Simulated(period_s=1.0)
    service.load(2, 200)
    assert service.admission.n_in_flight <= ALWAYS_ADMITTED
    assert service.n_refused > 0
    service.period_s = PERIOD_S
    service.load(20, 60, start_s=300)
    for at_s in (400.0, 500.0, 600.0, 700.0):
        n_refused = service.n_refused
        for _ in range(60):
            service.arrive(at_s)
    assert service.n_refused == n_refused


def test_a_failed_request_teaches_nothing() -> None:
    admission = Admission(1.0)
    for _ in range(2 * ALWAYS_ADMITTED):
        with pytest.raises(RuntimeError), admission.admitted():
            raise RuntimeError
    assert (admission.n_in_flight, admission.expected_wait_s) == (0, 0.0)
