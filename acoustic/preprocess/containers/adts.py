"""Frames of ADTS, the raw form of AAC: each states its own size.

A file may have ID3 tags between its frames (joined segments of HTTP live streaming), and may change
its sample rate or channels. `scan` finds the runs of frames of one format.

Source: ISO/IEC 13818-7, section 6.2 (header).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from acoustic.errors import UnsupportedAudioError

MAX_CANDIDATES = 1 << 16
MAX_RUNS = 4096
_SYNC = re.compile(rb"\xff[\xf0\xf1\xf8\xf9]")
_AGREEING_FRAMES = 3
_LEAST_BYTES = 7


@dataclass(frozen=True, slots=True)
class AdtsRun:
    """Frames without a gap, all of one sample rate and channel configuration.

    Attributes:
        start: position of the first frame, bytes.
        stop: position behind the last frame, bytes.
        form: value that is the same for frames of one format.
    """

    start: int
    stop: int
    form: int


def scan(data: bytes, at: int) -> list[AdtsRun]:
    """All runs of frames from a position to the end; what lies between them is not audio.

    Args:
        data: content of a file.
        at: where to begin.

    Raises:
        UnsupportedAudioError: more than MAX_RUNS runs.
    """
    runs: list[AdtsRun] = []
    n_candidates = 0
    while True:
        size, form = _frame(data, at)
        if not size:
            found = _SYNC.search(data, at)
            n_candidates += 1
            if found is None or n_candidates > MAX_CANDIDATES:
                return runs
            at = found.start()
            if not agrees(data, at):
                at += 1
            continue
        start, run_form = at, form
        while size and form == run_form:
            at += size
            size, form = _frame(data, at)
        runs.append(AdtsRun(start, min(at, len(data)), run_form))
        if len(runs) > MAX_RUNS:
            raise UnsupportedAudioError(
                f"the file changes its format or is damaged in more than {MAX_RUNS} places, the "
                "limit; encode it again"
            )


def agrees(data: bytes, at: int) -> bool:
    """Whether frames of one format follow each other from `at`, at least three or to the end."""
    first = _frame(data, at)[1]
    n = 0
    while n < _AGREEING_FRAMES:
        size, form = _frame(data, at)
        if not size or form != first:
            return n >= 2 and at >= len(data)
        at, n = at + size, n + 1
    return True


def _frame(data: bytes, at: int) -> tuple[int, int]:
    """Size in bytes and format of the frame at a position; (0, 0) if there is none."""
    head = data[at : at + 6]
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return 0, 0
    size = (head[3] & 0x03) << 11 | head[4] << 3 | head[5] >> 5
    rate_index = head[2] >> 2 & 0x0F
    if size < _LEAST_BYTES or rate_index > 12:
        return 0, 0
    version, channels = head[1] & 0x08, (head[2] & 1) << 2 | head[3] >> 6
    return size, 1 << 15 | version << 8 | rate_index << 3 | channels
