"""Refusal by expected wait, on a simulated service and a simulated clock."""

from __future__ import annotations

import heapq
import math
from collections import deque
from contextlib import ExitStack

import pytest

from acoustic.errors import InputError, OverloadedError
from deployments.stages.admission import (
    ALWAYS_ADMITTED,
    ALWAYS_COMPLETED,
    N_USUAL_TIMES,
    PATIENCE_S,
    Admission,
)

BASE_S, PERIOD_S = 0.1, 0.04


class Simulated:
    """A service that answers one request every period, in order, after the base."""

    def __init__(
        self, period_s: float = PERIOD_S, max_wait_s: float = 3.0, batch_s: float = 0.0
    ) -> None:
        self.now_s = 0.0
        self.period_s = period_s
        self.batch_s = batch_s
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
        if self.batch_s:  # what is ready waits for the end of its batch
            done_s = math.ceil(done_s / self.batch_s) * self.batch_s
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
    assert max(service.waits_s) < 1.4 * 3.0 + BASE_S  # the first while it learns
    assert len(service.waits_s) >= 0.95 * 60 / PERIOD_S
    assert service.n_refused > 0
    assert min(service.retries_s) >= 1


def test_answers_that_come_in_batches_are_averaged() -> None:
    service = Simulated(batch_s=0.3)
    service.load(1.5 / PERIOD_S, 60)
    assert max(service.waits_s[100:]) < 1.3 * 3.0 + BASE_S + 0.3
    assert len(service.waits_s) >= 0.95 * 60 / PERIOD_S


def test_a_service_that_becomes_slow_is_noticed_while_it_is_busy() -> None:
    service = Simulated()
    service.load(2 / PERIOD_S, 20)
    service.period_s = 4 * PERIOD_S
    service.waits_s.clear()
    service.load(2 / PERIOD_S, 40, start_s=20)
    n_known = 160  # two queues: those that were admitted before, and at the old intervals
    assert max(service.waits_s[n_known:]) < 1.3 * 3.0 + BASE_S


def test_a_burst_on_an_idle_service_is_taken() -> None:
    service = Simulated()
    service.load(5, 10)
    for _ in range(60):
        service.arrive(20.0)
    assert service.n_refused == 0


def test_a_long_first_batch_is_not_taken_for_the_interval_between_answers() -> None:
    """24 callers at once, each comes again; 16 are answered together, the first after a second."""
    now_s = 0.0
    admission = Admission(2.5, lambda: now_s)
    waiting = deque(ExitStack() for _ in range(24))
    for caller in waiting:
        caller.enter_context(admission.admitted())
    for batch_s in (1.0, 0.5, 0.5, 0.5):
        now_s += batch_s
        for _ in range(16):
            caller = waiting.popleft()
            caller.close()
            caller.enter_context(admission.admitted())
            waiting.append(caller)
    assert admission.expected_wait_s < 1.5


def test_a_few_are_always_admitted_and_the_estimate_recovers() -> None:
    """A slow model holds some requests whatever they wait; once it is fast, more are taken."""
    service = Simulated(period_s=1.0)
    service.load(2, 200)
    assert service.admission.n_in_flight <= ALWAYS_COMPLETED
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
    for _ in range(2 * ALWAYS_COMPLETED):
        with pytest.raises(RuntimeError), admission.admitted():
            raise RuntimeError
    assert (admission.n_in_flight, admission.expected_wait_s) == (0, 0.0)


def test_a_request_is_refused_before_its_body_is_read_rather_than_after() -> None:
    service = Simulated(period_s=1.0)
    service.load(2, 100)
    admission = service.admission
    with ExitStack() as stack:
        while admission.n_in_flight < ALWAYS_ADMITTED:
            stack.enter_context(admission.admitted())
        with pytest.raises(OverloadedError):
            admission.check()
        while admission.n_in_flight < ALWAYS_COMPLETED:
            stack.enter_context(admission.admitted())
        with pytest.raises(OverloadedError):
            stack.enter_context(admission.admitted())


def test_refused_files_are_answers_but_say_nothing_of_the_time_that_others_take() -> None:
    admission = Admission(1.0)
    with pytest.raises(InputError), admission.admitted():
        raise InputError("no audio")
    assert admission.usual_s is None


class Waiting:
    """A request in flight, and others before and after it."""

    def __init__(self, n_others: int) -> None:
        self.now_s = 0.0
        self._admission = Admission(3.0, lambda: self.now_s)
        self._held = ExitStack()
        with self._admission.admitted():
            self.now_s += 0.1
        for _ in range(n_others):
            self._held.enter_context(self._admission.admitted())
        self.is_late = self._held.enter_context(self._admission.admitted())

    def answer_others(self, n: int, each_s: float) -> None:
        for _ in range(n):
            with self._admission.admitted():
                self.now_s += each_s


def test_a_request_alone_is_late_after_the_patience() -> None:
    waiting = Waiting(n_others=0)
    waiting.now_s += PATIENCE_S - 0.1
    assert not waiting.is_late()
    waiting.now_s += 0.2
    assert waiting.is_late()


def test_a_request_is_late_where_others_are_answered_in_less_time() -> None:
    waiting = Waiting(n_others=10)
    waiting.answer_others(n=1_200, each_s=0.01)
    assert waiting.is_late()


def test_a_request_is_not_late_where_all_wait_as_long() -> None:
    waiting = Waiting(n_others=10)
    waiting.answer_others(n=20, each_s=1.0)
    assert not waiting.is_late()  # 20 s; it has 11 others beside it, and each takes a second
    waiting.answer_others(n=N_USUAL_TIMES * 12, each_s=1.0)
    assert waiting.is_late()


def test_a_request_is_not_late_where_nobody_is_answered() -> None:
    waiting = Waiting(n_others=40)
    waiting.answer_others(n=32, each_s=0.06)
    waiting.now_s += 5 * PATIENCE_S
    assert not waiting.is_late()
