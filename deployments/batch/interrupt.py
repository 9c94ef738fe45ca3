"""Ctrl-C that stops a job even if the first one is lost.

Python raises KeyboardInterrupt wherever the main thread is. In a callback of Ray's C++ code, or
while an object is deleted, it is printed and forgotten, and the job would go on.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

REPEAT_S = 30.0
"""Time between two interrupts; what is cleaned up after the first takes less."""


@contextmanager
def repeated_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt again every REPEAT_S after a SIGINT, until the block is left.

    Nothing is changed outside the main thread, which alone gets signals, and where SIGINT does
    something else than usual: a shell lets jobs in the background ignore it.
    """
    main, before = threading.main_thread(), signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not main or before is not signal.default_int_handler:
        yield
        return
    interrupted, left = threading.Event(), threading.Event()

    def raise_it(number: int, frame: FrameType | None) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    def repeat() -> None:
        interrupted.wait()
        while not left.wait(REPEAT_S):
            signal.pthread_kill(main.ident or 0, signal.SIGINT)

    signal.signal(signal.SIGINT, raise_it)
    thread = threading.Thread(target=repeat, name="interrupt", daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        interrupted.set()
        thread.join()
        signal.signal(signal.SIGINT, before)
