"""Audio by reference: what is allowed is read, and nothing else is reached."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from acoustic.errors import (
    AcousticError,
    AudioDecodeError,
    InvalidRequestError,
    OverloadedError,
    SourceForbiddenError,
    SourceNotFoundError,
    SourceUnavailableError,
    UploadTooLargeError,
)
from acoustic.preprocess.ranged_file import BLOCK_BYTES, FileParts
from deployments.sources import local
from deployments.sources.config import SourcesConfig
from deployments.sources.public_addresses import Pinned, is_public
from deployments.sources.remote_file import HEAD_BYTES, WHOLE_BYTES, RemoteFile
from deployments.sources.sources import MAX_AT_A_TIME, Sources

# asyncio leaves transports of handshakes that failed to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def no_transport_is_left() -> Iterator[None]:
    """A loop that ends before its transports of TLS leaves them to the garbage collector."""
    yield
    gc.collect()


MAX_BYTES = 1000
AUDIO = b"RIFF" + bytes(96)


class Trap:
    """A server on loopback that notes every connection."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.n_touched = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                self.n_touched += 1
                client.close()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    found = Trap()
    yield found
    found.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "music"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a b.wav").write_bytes(AUDIO)
    (tmp_path / "secret.wav").write_bytes(b"secret")
    (tmp_path / "music-other").mkdir()
    (tmp_path / "music-other" / "a.wav").write_bytes(b"secret")
    (folder / "out.wav").symlink_to(tmp_path / "secret.wav")
    (folder / "outside").symlink_to(tmp_path / "music-other")
    (folder / "in.wav").symlink_to(folder / "deep" / "a b.wav")
    (folder / "zero.wav").symlink_to("/dev/zero")
    (folder / "loop.wav").symlink_to(folder / "loop.wav")
    os.mkfifo(folder / "pipe.wav")
    (folder / "large.wav").write_bytes(bytes(MAX_BYTES + 1))
    return folder


def read(config: SourcesConfig, uri: str, addresses: Sequence[str] = (), **more: Any) -> bytes:
    async def lookup(host: str, port: int) -> Sequence[str]:
        assert port == 443
        if not addresses:
            raise socket.gaierror(-2, "unknown")
        return addresses

    async def scenario() -> bytes:
        try:
            async with Sources(config, MAX_BYTES, lookup, **more).opened(uri) as file:
                return await file.whole()
        finally:
            await asyncio.sleep(0.05)  # connections of TLS end after their session

    return asyncio.run(scenario())


HOST = "music.example.org"
EVERYTHING = {"hosts": (HOST,), "buckets": ("s3://music",)}
PUBLIC = ["93.184.216.34"]

HOSTILE_URIS = [
    # addresses in every notation
    "https://127.0.0.1/a", "https://127.1/a", "https://2130706433/a", "https://0x7f000001/a",
    "https://0177.0.0.1/a", "https://0/a", "https://[::1]/a", "https://[::ffff:127.0.0.1]/a",
    "https://[0:0:0:0:0:ffff:7f00:1]/a", "https://169.254.169.254/latest/meta-data/",
    "https://[fd00:ec2::254]/", "https://100.64.0.1/", "https://10.0.0.1/", "https://0.0.0.0/",
    "https://[64:ff9b::7f00:1]/", "https://localhost/", "https://LOCALHOST/",
    "https://metadata.google.internal/", "https://127.0.0.1.nip.io/",
    # the host, and more or less of it
    f"https://{HOST}@127.0.0.1/a", f"https://127.0.0.1@{HOST}/a", f"https://user:pass@{HOST}/a",
    f"https://{HOST}:8080/a", f"https://{HOST}:443/a", f"https://{HOST}./a",
    f"https://{HOST}.evil.example/a", f"https://evil.example/{HOST}", f"https://x.{HOST}/a",
    f"https://{HOST}%2eevil.example/a", f"https://{HOST}%00.evil.example/a",
    f"https://{HOST}\\@127.0.0.1/a", f"https://{HOST}\\.evil.example/a", f"https:/{HOST}/a",
    f"https:{HOST}/a", f"https:///{HOST}/a", f"//{HOST}/a", f"{HOST}/a", f" https://{HOST}/a",
    f"https://{HOST}/a b", f"https://{HOST}/a\nb", f"https://{HOST}/a\r\nx: y",
    f"https://{HOST}\t/a", f"https://{HOST}/#a", f"https://{HOST}/a#", "https://①②⑦.⓪.⓪.①/a",
    "https://mus\u0131c.example.org/a", f"https://{HOST}/%00",
    # other schemes
    f"http://{HOST}/a", f"ftp://{HOST}/a", f"gopher://{HOST}/a", "data:audio/wav;base64,AAAA",
    "dict://127.0.0.1:11211/", "jar:file:///etc/passwd!/", "unix:///run/docker.sock",
    # object stores
    "s3://other/a", "gs://music/a", "s3://music.evil/a", "s3://music@evil/a", "s3:///music/a",
    "az://music/a",
    # files
    "file:///etc/passwd", "file://localhost/etc/passwd", "file://evil/etc/passwd",
    "file:/etc/passwd", "/etc/passwd", "", "x" * 3000,
]  # fmt: skip


@pytest.mark.parametrize("uri", HOSTILE_URIS, ids=range(len(HOSTILE_URIS)))
def test_no_hostile_uri_reaches_anything(uri: str, trap: Trap, root: Path) -> None:
    config = SourcesConfig(**EVERYTHING, roots=(str(root),))  # type: ignore[arg-type]
    with pytest.raises((InvalidRequestError, SourceForbiddenError)):
        read(config, uri, ["127.0.0.1"])
    assert trap.n_touched == 0


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
     "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::1",
     "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:10.0.0.1", "::127.0.0.1",
     "64:ff9b::a00:1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2001:0:53aa:64c:0:7:80ff:fffe",
     "2001:db8::1", "", "localhost", "1.2.3"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)
    config = SourcesConfig(hosts=(HOST,))
    with pytest.raises(SourceForbiddenError, match="not public"):
        read(config, f"https://{HOST}/a.wav", [*PUBLIC, address])


@pytest.mark.parametrize("address", [*PUBLIC, "2606:2800:21f:cb07:6820:80da:af6b:8b2c",
                                     "64:ff9b::5db8:d822", "2002:5db8:d822::"])  # fmt: skip
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


def test_nothing_is_allowed_by_default(root: Path) -> None:
    assert not SourcesConfig().is_on
    for uri in (f"https://{HOST}/a", "s3://music/a", f"file://{root}/deep/a%20b.wav"):
        with pytest.raises(SourceForbiddenError):
            read(SourcesConfig(), uri, PUBLIC)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("deep/a%20b.wav", AUDIO), ("in.wav", AUDIO), ("./deep/../in.wav", AUDIO),
        ("out.wav", SourceForbiddenError), ("outside/a.wav", SourceForbiddenError),
        ("../secret.wav", SourceForbiddenError), ("%2e%2e/secret.wav", SourceForbiddenError),
        ("zero.wav", SourceForbiddenError), ("../music-other/a.wav", SourceForbiddenError),
        ("loop.wav", SourceNotFoundError), ("pipe.wav", SourceNotFoundError),
        ("deep", SourceNotFoundError), ("none.wav", SourceNotFoundError),
        ("large.wav", UploadTooLargeError),
    ],
)  # fmt: skip
def test_files(root: Path, name: str, expected: bytes | type[AcousticError]) -> None:
    config = SourcesConfig(roots=(str(root),))
    uri = f"file://{root}/{name}"
    if isinstance(expected, bytes):
        assert read(config, uri) == expected
        return
    with pytest.raises(expected):
        read(config, uri)


def test_a_root_may_be_a_link(root: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    config = SourcesConfig(roots=(str(link),))
    assert read(config, f"file://{link}/in.wav") == AUDIO
    assert read(config, f"file://{root}/in.wav") == AUDIO


@pytest.mark.parametrize(
    "wrong",
    [
        {"hosts": ("127.0.0.1",)}, {"hosts": ("Example.org",)}, {"hosts": ("localhost",)},
        {"hosts": ("*.example.org",)}, {"hosts": ("https://example.org",)},
        {"private_hosts": ("10.0.0.1",)}, {"buckets": ("music",)}, {"buckets": ("s3://",)},
        {"buckets": ("s3://music/a",)}, {"buckets": ("http://music",)}, {"roots": ("music",)},
        {"roots": ("/",)}, {"timeout_s": 0.0},
    ],
)  # fmt: skip
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"is not|must be positive"):
        SourcesConfig(**wrong)


class Handler(BaseHTTPRequestHandler):
    """Replies by path."""

    seen: ClassVar[list[tuple[str, dict[str, str]]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, dict(self.headers.items())))
        kind = self.path.rpartition("/")[2]
        if kind == "redirect":
            self.send_response(302)
            self.send_header("location", "https://music.example.org/good")
            self.end_headers()
            return
        if kind in ("404", "403", "500"):
            self.send_response(int(kind))
            self.end_headers()
            return
        if kind in LONG_KINDS:
            self._send_long(kind)
            return
        self.send_response(200)
        if kind == "declared":
            self.send_header("content-length", str(10**12))
            self.end_headers()
            return
        if kind == "slow":
            self.end_headers()
            threading.Event().wait(2)
            return
        n_bytes = MAX_BYTES + 1 if kind == "large" else len(AUDIO)
        if kind == "good":
            self.send_header("content-length", str(n_bytes))
        self.end_headers()
        self.wfile.write(AUDIO if n_bytes == len(AUDIO) else bytes(n_bytes))

    def _send_long(self, kind: str) -> None:
        """A part of LONG, or with another kind something else."""
        text = self.headers["range"].removeprefix("bytes=")
        start, last = (int(each) for each in text.split("-"))
        version = f'"{len(self.seen)}"' if kind == "changes" else '"1"'
        if kind == "no-ranges" or (kind == "forgets" and start):
            self.send_response(200)
            self.send_header("content-length", str(len(LONG)))
            self.send_header("etag", version)
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(LONG)
            return
        part = LONG[start : last + 1]
        if kind == "elsewhere" and start:
            start += 1
        self.send_response(206)
        self.send_header("content-range", f"bytes {start}-{start + len(part) - 1}/{len(LONG)}")
        self.send_header("content-length", str(len(part)))
        self.send_header("etag", version)
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


LONG_KINDS = ("long", "changes", "no-ranges", "forgets", "elsewhere")
LONG = bytes(range(256)) * ((WHOLE_BYTES + 3 * HEAD_BYTES) // 256) + b"end"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl on the PATH")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}",
         "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, cert


@pytest.fixture
def server(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[ssl.SSLContext]:
    key, cert = certificate
    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    found.socket = context.wrap_socket(found.socket, server_side=True)
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    Handler.seen.clear()
    # requests are for port 443, which a test cannot have
    pinned = Pinned.resolve

    async def resolve(self: Any, host: str, port: int = 0, family: Any = 0) -> Any:
        results = await pinned(self, host, found.server_address[1], family)
        return results

    monkeypatch.setattr(Pinned, "resolve", resolve)
    yield ssl.create_default_context(cafile=str(cert))
    found.shutdown()
    found.server_close()
    thread.join()


PRIVATE = SourcesConfig(private_hosts=(HOST,), timeout_s=1.0)


def test_https_reads_a_file_and_sends_no_secret(
    server: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    for path in ("good", "unstated"):
        found = read(PRIVATE, f"https://{HOST}/songs/{path}", ["127.0.0.1"], tls=server)
        assert found == AUDIO
    headers = {name.lower() for _, each in Handler.seen for name in each}
    assert headers <= {"host", "accept", "accept-encoding", "user-agent", "range"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("redirect", SourceForbiddenError), ("404", SourceNotFoundError),
        ("403", SourceForbiddenError), ("500", SourceUnavailableError),
        ("large", UploadTooLargeError), ("declared", UploadTooLargeError),
        ("slow", SourceUnavailableError),
    ],
)  # fmt: skip
def test_https_that_fails(server: ssl.SSLContext, path: str, expected: type[AcousticError]) -> None:
    with pytest.raises(expected):
        read(PRIVATE, f"https://{HOST}/{path}", ["127.0.0.1"], tls=server)
    assert len(Handler.seen) == 1, "a redirect is not followed"


def test_another_certificate_is_refused(server: ssl.SSLContext) -> None:
    with pytest.raises(SourceUnavailableError, match="did not send"):
        read(PRIVATE, f"https://{HOST}/good", ["127.0.0.1"])
    assert Handler.seen == []


def test_a_host_that_nobody_knows() -> None:
    with pytest.raises(SourceUnavailableError, match="is not known"):
        read(SourcesConfig(hosts=(HOST,)), f"https://{HOST}/a")


def test_a_few_files_are_in_memory_at_a_time(root: Path) -> None:
    async def scenario() -> None:
        found = Sources(SourcesConfig(roots=(str(root),)), MAX_BYTES)
        uri = f"file://{root}/in.wav"
        async with AsyncExitStack() as stack:
            for _ in range(MAX_AT_A_TIME):
                file = await stack.enter_async_context(found.opened(uri))
                assert await file.whole() == AUDIO
            with pytest.raises(OverloadedError):
                await stack.enter_async_context(found.opened(uri))
        async with found.opened(uri) as file:
            assert await file.whole() == AUDIO

    asyncio.run(scenario())


def test_reads_that_hang_hold_their_own_threads_only(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = threading.Event()
    pread = os.pread

    def hangs(handle: int, n_bytes: int, start: int) -> bytes:
        hanging.wait(20)
        return b""

    async def scenario() -> None:
        found = Sources(SourcesConfig(roots=(str(root),), timeout_s=0.05), MAX_BYTES)
        monkeypatch.setattr(local.os, "pread", hangs)

        async def read_one() -> bytes:
            async with found.opened(f"file://{root}/in.wav") as file:
                return await file.whole()

        for _ in range(MAX_AT_A_TIME):
            with pytest.raises(SourceUnavailableError, match=r"within 0\.05 s"):
                await read_one()
        with pytest.raises(SourceUnavailableError, match="too many reads hang"):
            await read_one()
        hanging.set()
        monkeypatch.setattr(local.os, "pread", pread)
        while found._threads.n_busy:
            await asyncio.sleep(0.01)
        assert await read_one() == AUDIO

    asyncio.run(scenario())


def in_parts(
    config: SourcesConfig, uri: str, missing: list[tuple[int, int]], max_bytes: int = len(LONG),
    **more: Any,
) -> tuple[bytes, FileParts]:  # fmt: skip
    async def lookup(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async def scenario() -> tuple[bytes, FileParts]:
        async with Sources(config, max_bytes, lookup, **more).opened(uri) as file:
            assert file.in_parts
            await file.fetch([(0, 1)])
            await file.fetch(missing)
            return file.parts()

    return asyncio.run(scenario())


def check_parts(data: bytes, parts: FileParts) -> None:
    assert parts.size_bytes == len(LONG)
    begun = 0
    for start, stop in parts.ranges:
        assert start % BLOCK_BYTES == 0
        assert data[begun : begun + stop - start] == LONG[start:stop]
        begun += stop - start
    assert begun == len(data)


FAR = WHOLE_BYTES + HEAD_BYTES


def test_parts_of_a_long_file_on_a_server(server: ssl.SSLContext) -> None:
    missing = [(FAR + 5, FAR + 10), (FAR + 100, FAR + 200), (len(LONG) - 2, len(LONG))]
    data, parts = in_parts(PRIVATE, f"https://{HOST}/long", missing, tls=server)
    check_parts(data, parts)
    begun = len(LONG) // BLOCK_BYTES * BLOCK_BYTES
    assert parts.ranges == ((0, HEAD_BYTES), (FAR, FAR + HEAD_BYTES), (begun, len(LONG)))
    assert len(Handler.seen) == 3, "the first reply is the beginning of the file"


def test_parts_of_a_long_local_file(tmp_path: Path) -> None:
    (tmp_path / "long.wav").write_bytes(LONG)
    config, uri = SourcesConfig(roots=(str(tmp_path),)), f"file://{tmp_path}/long.wav"
    data, parts = in_parts(config, uri, [(FAR, FAR + 2 * HEAD_BYTES), (FAR - 1, FAR + 1)])
    check_parts(data, parts)
    with pytest.raises(UploadTooLargeError):
        in_parts(config, uri, [(FAR, FAR + 1)], max_bytes=HEAD_BYTES + 1)
    with pytest.raises(AudioDecodeError, match="never complete"):
        in_parts(config, uri, [(5, 6)])


@pytest.mark.parametrize("path", ["long", "no-ranges"])
def test_a_long_file_is_read_whole_as_well(server: ssl.SSLContext, path: str) -> None:
    async def lookup(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async def scenario(max_bytes: int) -> bytes:
        sources = Sources(PRIVATE, max_bytes, lookup, tls=server)
        async with sources.opened(f"https://{HOST}/{path}") as file:
            assert file.in_parts == (path == "long")
            return await file.whole()

    assert asyncio.run(scenario(len(LONG))) == LONG
    with pytest.raises(UploadTooLargeError, match="limit is 7"):
        asyncio.run(scenario(len(LONG) - 1))


@pytest.mark.parametrize(
    ("path", "message"),
    [("changes", "changed while it was read"), ("forgets", "changed while it was read"),
     ("elsewhere", "sent other bytes")],
)  # fmt: skip
def test_a_server_that_mixes_versions(server: ssl.SSLContext, path: str, message: str) -> None:
    with pytest.raises(SourceUnavailableError, match=message):
        in_parts(PRIVATE, f"https://{HOST}/{path}", [(FAR, FAR + 1)], tls=server)


def test_a_local_file_that_changes(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    path.write_bytes(LONG)

    async def scenario(change: Callable[[], object]) -> None:
        sources = Sources(SourcesConfig(roots=(str(tmp_path),)), len(LONG))
        async with sources.opened(f"file://{path}") as file:
            await file.fetch([(0, 1)])
            change()
            with pytest.raises(SourceUnavailableError, match="changed while it was read"):
                await file.fetch([(FAR, FAR + 1)])

    asyncio.run(scenario(lambda: os.utime(path, ns=(1, 1))))
    asyncio.run(scenario(lambda: os.truncate(path, FAR)))


def test_all_reads_of_a_file_share_its_time() -> None:
    class Slow:
        size_bytes, has_ranges = len(LONG), True

        async def read(self, start: int, stop: int) -> bytes:
            await asyncio.sleep(0.06)
            return LONG[start:stop]

    async def scenario() -> None:
        file = RemoteFile(Slow(), len(LONG), len(LONG), timeout_s=0.1)  # type: ignore[arg-type]
        await file.fetch([(0, 1)])
        with pytest.raises(SourceUnavailableError, match=r"within 0\.1 s"):
            await file.fetch([(FAR, FAR + 1)])

    asyncio.run(scenario())


def test_a_file_above_the_limit_of_files_in_parts() -> None:
    class Large:
        size_bytes, has_ranges = len(LONG), True

    with pytest.raises(UploadTooLargeError, match="limit is 5"):
        RemoteFile(Large(), 10**9, 5 * 10**6, 1.0)  # type: ignore[arg-type]
