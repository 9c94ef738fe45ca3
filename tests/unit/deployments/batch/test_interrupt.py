"""An interrupt that was lost comes again, and none comes after the block."""

from __future__ import annotations

import signal
import threading

import pytest

from deployments.batch import interrupt
from deployments.batch.interrupt import repeated_interrupt


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "REPEAT_S", 0.05)


def job() -> None:
    """A job whose first interrupt is lost, as in a callback."""
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    threading.Event().wait(30)
    pytest.fail("nothing interrupted the job")


def test_a_lost_interrupt_comes_again() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), repeated_interrupt():
        job()
    assert signal.getsignal(signal.SIGINT) is before
    assert "interrupt" not in {each.name for each in threading.enumerate()}


def test_without_an_interrupt_nothing_comes() -> None:
    with repeated_interrupt():
        assert not threading.Event().wait(0.2)
    assert "interrupt" not in {each.name for each in threading.enumerate()}


def test_a_job_in_the_background_still_ignores_interrupts() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with repeated_interrupt():
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_may_run_a_job() -> None:
    done = []

    def run() -> None:
        with repeated_interrupt():
            done.append(threading.current_thread().name)

    thread = threading.Thread(target=run, name="other")
    thread.start()
    thread.join()
    assert done == ["other"]
