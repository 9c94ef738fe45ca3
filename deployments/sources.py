"""Audio by reference: reads what a URI names, if the operator has allowed its place.

Nothing is allowed by default. What is allowed is a list of places, never a pattern over whole URIs,
and each kind is read with its own care:

    https://  the host is in the list; its name is looked up once, every address that it has must be
              one of the public internet, and the connection goes to an address that was checked;
              redirects are not followed
    s3:// gs://  the bucket is in the list; credentials are those of the service
    file://   the real path lies under a listed folder, and is a regular file when it is open
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import aiohttp

from acoustic.errors import (
    InvalidRequestError,
    OverloadedError,
    SourceForbiddenError,
    SourceNotFoundError,
    SourceUnavailableError,
    UploadTooLargeError,
)
from deployments.public_addresses import Lookup, Pinned, is_public, system_lookup

MAX_URI_CHARACTERS = 2048
CHUNK_BYTES = 1 << 20
MAX_AT_A_TIME = 4
"""Files by reference in the memory of an ingress, and reads that may hang."""

HTTPS_PORT = 443
LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
NAME = re.compile(rf"(?=.{{1,253}}$)({LABEL}\.)+(?![0-9]){LABEL}")
"""Host names; never addresses, whose last label is a number in every notation."""

BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
OBJECT_STORES = ("s3", "gs")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourcesConfig:
    """Places from which the service reads audio by reference; none by default.

    Attributes:
        hosts: names of hosts for https://, such as "music.example.org".
        private_hosts: names of hosts for https:// whose addresses need not be public.
        buckets: buckets of object stores, such as "s3://music" or "gs://music".
        roots: folders for file://, absolute.
        timeout_s: longest time to read one file, seconds.
    """

    hosts: tuple[str, ...] = ()
    private_hosts: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        for host in (*self.hosts, *self.private_hosts):
            if not NAME.fullmatch(host):
                raise ValueError(f"{host!r} is not a host name in lower case")
        for bucket in self.buckets:
            scheme, separator, name = bucket.partition("://")
            if scheme not in OBJECT_STORES or not separator or not BUCKET.fullmatch(name):
                raise ValueError(f"{bucket!r} is not a bucket such as s3://music or gs://music")
        for root in self.roots:
            if not os.path.isabs(root) or os.path.realpath(root) == "/":
                raise ValueError(f"{root!r} is not an absolute folder below /")
        if self.timeout_s <= 0:
            raise ValueError(f"timeout_s is {self.timeout_s}, must be positive")

    @property
    def is_on(self) -> bool:
        """Whether any place is allowed."""
        return bool(self.hosts or self.private_hosts or self.buckets or self.roots)


class Sources:
    """Reads files by URI.

    Args:
        config: places that are allowed.
        max_bytes: largest file, bytes.
        lookup: finds the addresses of a host; None for the system's.
        tls: settings of TLS; None for the system's certificates.
    """

    def __init__(
        self,
        config: SourcesConfig,
        max_bytes: int,
        lookup: Lookup | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._config, self._max_bytes = config, max_bytes
        self._lookup = lookup or system_lookup
        self._tls = tls
        self._threads = ThreadPoolExecutor(MAX_AT_A_TIME, thread_name_prefix="sources")
        self._n_open = self._n_threads = 0
        self._roots = tuple(os.path.realpath(root) for root in config.roots)

    @asynccontextmanager
    async def opened(self, uri: str) -> AsyncIterator[bytes]:
        """Content of the file that a URI names, one of a few that are in memory at a time.

        Raises:
            OverloadedError: there are as many as may be; the rest as `read`.
        """
        if self._n_open >= MAX_AT_A_TIME:
            raise OverloadedError(
                f"the service is busy: it reads {MAX_AT_A_TIME} files by reference at a time; try "
                "again later"
            )
        self._n_open += 1
        try:
            yield await self.read(uri)
        finally:
            self._n_open -= 1

    async def read(self, uri: str) -> bytes:
        """Content of the file that a URI names.

        Raises:
            InvalidRequestError: the URI is malformed.
            SourceForbiddenError: its place is not allowed.
            SourceNotFoundError: the file does not exist.
            SourceUnavailableError: the place does not answer, or not in time.
            UploadTooLargeError: the file is larger than the limit.
        """
        parts = _parsed(uri)
        read = self._reader_of(parts)
        try:
            async with asyncio.timeout(self._config.timeout_s):
                return await read(parts)
        except TimeoutError as error:
            raise SourceUnavailableError(
                f"the file was not read within {self._config.timeout_s:g} s"
            ) from error

    def _reader_of(self, parts: SplitResult) -> Callable[[SplitResult], Awaitable[bytes]]:
        config, host = self._config, parts.netloc
        if parts.scheme == "https" and host in (*config.hosts, *config.private_hosts):
            return self._read_https
        if parts.scheme in OBJECT_STORES and f"{parts.scheme}://{host}" in config.buckets:
            return self._read_object
        if parts.scheme == "file" and not host and self._roots:
            return self._read_file
        raise SourceForbiddenError(
            "the service does not read from there: the operator can allow the place in sources"
        )

    async def _read_https(self, parts: SplitResult) -> bytes:
        host = parts.netloc
        try:
            addresses = await self._lookup(host, HTTPS_PORT)
        except OSError as error:
            raise SourceUnavailableError(f"the host {host} is not known") from error
        if host not in self._config.private_hosts:
            for address in addresses:
                if not is_public(address):
                    raise SourceForbiddenError(f"the host {host} has an address that is not public")
        connector = aiohttp.TCPConnector(
            resolver=Pinned(addresses),
            ssl=self._tls or True,
            use_dns_cache=False,
            force_close=True,
        )
        # no cookies, no credentials of .netrc, no proxy of the environment, no decompression
        async with aiohttp.ClientSession(
            connector=connector, trust_env=False, auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"accept": "*/*", "accept-encoding": "identity"},
        ) as session:  # fmt: skip
            try:
                async with session.get(parts.geturl(), allow_redirects=False) as reply:
                    _check_status(reply.status, host)
                    self._check_size(reply.content_length or 0)
                    return await self._limited(reply.content.iter_chunked(CHUNK_BYTES))
            except (aiohttp.ClientError, OSError) as error:
                raise SourceUnavailableError(
                    f"the host {host} did not send the file: {type(error).__name__}"
                ) from error

    async def _limited(self, chunks: Any) -> bytes:
        content = bytearray()
        async for chunk in chunks:
            content += chunk
            self._check_size(len(content))
        return bytes(content)

    async def _read_object(self, parts: SplitResult) -> bytes:
        try:
            from deployments.batch.storage import (
                StorageOptions,
                open_filesystem,
                translating_store_errors,
            )
        except ImportError as error:
            raise SourceUnavailableError("object stores need the extra batch") from error
        uri = f"{parts.scheme}://{parts.netloc}{unquote(parts.path)}"

        def read() -> bytes:
            options = StorageOptions(timeout_s=self._config.timeout_s)
            filesystem, path = open_filesystem(uri, options)
            with translating_store_errors(uri):
                size = filesystem.get_file_info(path).size
                if size is None:
                    raise SourceNotFoundError(f"{uri} does not exist")
                self._check_size(size)
                with filesystem.open_input_stream(path) as stream:
                    content: bytes = stream.read(self._max_bytes + 1)
            self._check_size(len(content))
            return content

        return await self._in_thread(read)

    async def _read_file(self, parts: SplitResult) -> bytes:
        path = unquote(parts.path)
        return await self._in_thread(lambda: self._read_local(path))

    async def _in_thread(self, work: Callable[[], bytes]) -> bytes:
        """In threads of its own: a mount that hangs keeps its thread, and no other work waits."""
        if self._n_threads >= MAX_AT_A_TIME:
            raise SourceUnavailableError("too many reads hang: a store or a mount does not answer")
        self._n_threads += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        future.add_done_callback(self._one_less)
        return await asyncio.shield(future)

    def _one_less(self, future: asyncio.Future[bytes]) -> None:
        self._n_threads -= 1
        if not future.cancelled():
            future.exception()  # looked at: nobody may be waiting any more

    def _read_local(self, path: str) -> bytes:
        """A regular file whose real path is under a root, also when it is open."""
        real = os.path.realpath(path)
        self._check_root(real)
        try:
            # a FIFO or a device would wait, or never end
            handle = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise SourceNotFoundError("the file does not exist") from error
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            os.close(handle)
            raise SourceNotFoundError("that is not a regular file")
        with os.fdopen(handle, "rb") as file:
            opened = Path(f"/proc/self/fd/{handle}")
            if opened.exists():  # a folder on the way may have become a link meanwhile
                self._check_root(os.path.realpath(opened))
            self._check_size(status.st_size)
            try:
                content = file.read(self._max_bytes + 1)
            except OSError as error:
                raise SourceUnavailableError("the file cannot be read") from error
        self._check_size(len(content))
        return content

    def _check_root(self, real: str) -> None:
        if not any(os.path.commonpath((root, real)) == root for root in self._roots):
            raise SourceForbiddenError("that file is not in a folder that the operator allows")

    def _check_size(self, n_bytes: int) -> None:
        if n_bytes > self._max_bytes:
            raise UploadTooLargeError(
                f"the file is {n_bytes:,} bytes or more, limit is {self._max_bytes:,} bytes"
            )


def _parsed(uri: str) -> SplitResult:
    """The parts of a URI that only one reading has.

    Raises:
        InvalidRequestError: it has another form.
    """
    if len(uri) > MAX_URI_CHARACTERS:
        raise InvalidRequestError(
            f"uri has {len(uri):,} characters, limit is {MAX_URI_CHARACTERS:,}"
        )
    if not uri.isascii() or not uri.isprintable() or any(c in uri for c in ' \\"<>^`{|}'):
        raise InvalidRequestError("uri has characters that must be percent-encoded")
    try:
        parts = urlsplit(uri)
        has_port = parts.port is not None
    except ValueError as error:
        raise InvalidRequestError("uri cannot be read") from error
    if not parts.scheme or "://" not in uri:
        raise InvalidRequestError("uri has no scheme such as https://")
    if "@" in parts.netloc or has_port or "%" in parts.netloc or "[" in parts.netloc:
        raise SourceForbiddenError("uri may name a host by its name alone: no user, port, address")
    if parts.fragment or "#" in uri:
        raise InvalidRequestError("uri has a fragment")
    if "%00" in uri:
        raise InvalidRequestError("uri has a null character")
    return parts


def _check_status(status: int, host: str) -> None:
    if status == 200:
        return
    if status in (404, 410):
        raise SourceNotFoundError(f"the host {host} has no such file")
    if status in (401, 403):
        raise SourceForbiddenError(f"the host {host} does not let the service read the file")
    if 300 <= status < 400:
        raise SourceForbiddenError(f"the host {host} redirects, which the service does not follow")
    raise SourceUnavailableError(f"the host {host} answered with status {status}")
