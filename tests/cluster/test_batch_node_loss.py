"""A batch job loses a node: every file still has exactly one row."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow.parquet

from tests.cluster.conftest import MakeNodes
from tests.cluster.lab import Lab
from tests.cluster.ray_nodes import GCS_PORT, wait_until
from tests.support.sounds import encode, noise

N_SONGS, CHUNK = 120, 4
TIMEOUT_S = 240.0


def test_a_job_goes_on_without_the_node(lab: Lab, make_nodes: MakeNodes) -> None:
    songs, out = lab.folder / "songs", lab.folder / "out"
    songs.mkdir()
    for i in range(N_SONGS):
        content = b"junk" if i % 20 == 7 else encode(noise(7.0, seed=i), 22_050, "flac")
        (songs / f"{i:03}.flac").write_bytes(content)
    head, stays, vanishes = (lab.add_host() for _ in range(3))
    nodes = make_nodes("batch")
    nodes.start_head(head)
    nodes.start_worker(stays)
    nodes.start_worker(vanishes)

    command = [
        sys.executable, "-m", "acousticsense", "batch", str(songs), "--out", str(out),
        "--chunk", str(CHUNK), "--concurrency", "4", "--classifiers", "2", "--progress", "plain",
        "--model", nodes.environment["ACOUSTICSENSE_CHECKPOINT"],
        "--address", f"{head.address}:{GCS_PORT}",
    ]  # fmt: skip
    job = head.start(command, nodes.environment, "job")
    wait_until(lambda: len(_parts(out)) >= 3, TIMEOUT_S, "no part is written")
    n_before = len(_parts(out))
    vanishes.kill()
    code = job.wait(TIMEOUT_S)
    assert code == 0, (lab.folder / "job.log").read_text()[-3000:]
    rows = [row for path in _parts(out) for row in pyarrow.parquet.read_table(path).to_pylist()]
    names = [str(row["uri"]).rpartition("/")[2] for row in rows]
    assert n_before < N_SONGS / CHUNK, "the job was done before the node was lost"
    assert sorted(names) == sorted(path.name for path in songs.iterdir())
    codes = {row["error_code"] for row in rows if row["error_code"]}
    assert codes <= {"unsupported_audio", "audio_decode_failed", "invalid_request"}


def _parts(out: Path) -> list[Path]:
    return sorted(out.glob("part-*.parquet"))
