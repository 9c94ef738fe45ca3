"""Google Cloud Storage and Azure through their emulators; skipped if not on the PATH.

pip install gcp-storage-emulator            (in a separate environment)
npm install azurite && pip install adlfs
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet
import pytest
from pyarrow import fs

from acoustic.errors import ConfigError, SourceNotFoundError
from benchmarks.s3_server import free_port
from deployments.batch.listing import list_files
from deployments.batch.reader import Reader
from deployments.batch.source_file import SourceFile
from deployments.batch.storage import StorageOptions, open_filesystem, write_atomically
from tests.conftest import ROOT
from tests.support.sounds import encode, tone

CONTAINER = "songs"
SOUNDS = {f"{i}.wav": encode(tone(200.0 + 50 * i, 7.0), 22_050) for i in range(3)}
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = (  # the public key built into every azurite
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
START_TIMEOUT_S = 30.0


@pytest.fixture(scope="module", params=["gs", "az"])
def scheme(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """URI scheme of a running emulator that holds the sounds."""
    name: str = request.param
    port = free_port()
    start = {"gs": _google, "az": _azure}[name]
    with pytest.MonkeyPatch.context() as patch:
        command = start(port, tmp_path_factory.mktemp(name), patch)
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        try:
            _wait(port, process)
            filesystem, root = open_filesystem(f"{name}://{CONTAINER}", _options(name))
            if name == "az":
                filesystem.create_dir(root)
            for file, content in SOUNDS.items():
                write_atomically(filesystem, f"{root}/in/{file}", content)
            yield name
        finally:
            process.terminate()
            process.wait(10)


def _google(port: int, folder: Path, patch: pytest.MonkeyPatch) -> list[str]:
    command = shutil.which("gcp-storage-emulator")
    if command is None:
        pytest.skip("gcp-storage-emulator is not on the PATH")
    patch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", f"http://127.0.0.1:{port}")
    return [
        command, "start", "--host", "127.0.0.1", "--port", str(port), "--in-memory",
        "--default-bucket", CONTAINER,
    ]  # fmt: skip


def _azure(port: int, folder: Path, patch: pytest.MonkeyPatch) -> list[str]:
    pytest.importorskip("adlfs")
    command = shutil.which("azurite-blob")
    if command is None:
        pytest.skip("azurite-blob is not on the PATH")
    endpoint = f"http://127.0.0.1:{port}/{AZURITE_ACCOUNT}"
    patch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING",
        f"DefaultEndpointsProtocol=http;AccountName={AZURITE_ACCOUNT};AccountKey={AZURITE_KEY};"
        f"BlobEndpoint={endpoint};",
    )
    return [
        command, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder),
        "--skipApiVersionCheck",
    ]  # fmt: skip


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline_s, pause = time.monotonic() + START_TIMEOUT_S, threading.Event()
    while time.monotonic() < deadline_s:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "the emulator exited during start-up"
        pause.wait(0.1)
    raise AssertionError("the emulator did not open its port in time")


def _options(scheme: str) -> StorageOptions:
    return StorageOptions(anonymous=scheme == "gs")


def test_a_prefix_is_listed_and_read(scheme: str) -> None:
    options = _options(scheme)
    files = list_files([f"{scheme}://{CONTAINER}/in"], options).files
    assert [file.uri.rpartition("/")[2] for file in files] == sorted(SOUNDS)
    assert all(file.uri.startswith(f"{scheme}://{CONTAINER}/in/") for file in files)
    reader = Reader(options, 2, 1 << 20)
    assert [each.data for each in reader.read(files)] == list(SOUNDS.values())
    source, _ = reader.open_ranged(files[0])
    assert source.size_bytes == len(SOUNDS["0.wav"])


def test_what_is_missing_is_not_found(scheme: str) -> None:
    gone = SourceFile(uri=f"{scheme}://{CONTAINER}/in/gone.wav")
    (found,) = Reader(_options(scheme), 2, 1 << 20).read([gone])
    assert isinstance(found.error, SourceNotFoundError)
    with pytest.raises(ConfigError, match="does not exist"):
        list_files([f"{scheme}://{CONTAINER}/nothing"], _options(scheme))


def test_a_job_writes_to_the_store_and_resumes_there(scheme: str, tiny_checkpoint: Path) -> None:
    out = f"{scheme}://{CONTAINER}/out"
    command = [
        sys.executable, "-m", "acousticsense", "batch", f"{scheme}://{CONTAINER}/in", "--out", out,
        "--model", str(tiny_checkpoint), "--progress", "quiet", "--resume",
        *(["--anonymous"] if scheme == "gs" else []),
    ]  # fmt: skip
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "3 finished before" in done.stdout
    filesystem, root = open_filesystem(out, _options(scheme))
    found = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    rows = [
        row
        for each in found
        if each.base_name.startswith("part-")
        for row in pyarrow.parquet.read_table(filesystem.open_input_file(each.path)).to_pylist()
    ]
    assert sorted(str(row["uri"]).rpartition("/")[2] for row in rows) == sorted(SOUNDS)
    assert all(row["error_code"] == "" and row["top_genre"] for row in rows)
