"""The client against the real service: many files while replicas die."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from acoustic.prediction import Prediction
from acousticsense import Client
from tests.e2e.conftest import Service
from tests.support.sounds import encode, tone

N_FILES = int(os.environ.get("ACOUSTICSENSE_TEST_FILES", "100"))
MAX_GROWTH_BYTES = 64 << 20


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_every_file_has_one_result_in_order_while_replicas_die(
    service: Service, tmp_path: Path
) -> None:
    content = encode(tone(440, 3.0), 16_000, "flac")
    names = [f"{i:04}.flac" for i in range(N_FILES)]
    for i, name in enumerate(names):  # other content each, so that no answer is a repeat
        (tmp_path / name).write_bytes(content + i.to_bytes(4, "big"))
    killed: list[int] = []
    sizes: list[int] = []

    def on_progress(n_done: int) -> None:
        sizes.append(resident_bytes())
        if n_done in (N_FILES // 4, N_FILES // 2):
            stage = ("preprocess", "classify")[len(killed)]
            pid = direct.get("/v1/stats").json()["replicas"][stage]["pid"]
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    with Client(service.url) as client, service.client() as direct:
        results = list(client.classify_many(tmp_path, on_progress=on_progress))
    assert len(killed) == 2
    failed = [each for each in results if not isinstance(each, Prediction)]
    assert failed == []
    assert [Path(each.file).name for each in results] == names
    assert len(sizes) == N_FILES
    assert sizes[-1] - sizes[N_FILES // 4] < MAX_GROWTH_BYTES
