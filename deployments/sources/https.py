"""Files on web servers."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import SplitResult

import aiohttp

from acoustic.errors import (
    SourceForbiddenError,
    SourceNotFoundError,
    SourceUnavailableError,
)
from deployments.sources.public_addresses import Lookup, Pinned, is_public
from deployments.sources.remote_file import HEAD_BYTES, changed

HTTPS_PORT = 443
CHUNK_BYTES = 1 << 20
PARTIAL, NO_SUCH_RANGE = 206, 416
CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
"""First and last byte, size of the file."""

NO_REDIRECTS: dict[str, Any] = {"allow_redirects": False}


class HttpsFile:
    """A file on a web server; see `Place`.

    The first reply is the file's beginning, where the server knows ranges, or else the file.

    Args:
        session: connections to the server.
        url: address of the file.
        reply: the first reply.

    Raises:
        SourceUnavailableError: the server sent another range than the first.
    """

    def __init__(
        self, session: aiohttp.ClientSession, url: str, reply: aiohttp.ClientResponse
    ) -> None:
        self._session, self._url, self._reply = session, url, reply
        self._version = _version(reply)
        self._head: bytes | None = None
        self._head_bytes = 0
        self.has_ranges = reply.status == PARTIAL
        self.size_bytes: int | None = reply.content_length
        if reply.status == NO_SUCH_RANGE:  # an empty file has no first byte
            self.size_bytes = 0
        elif self.has_ranges:
            start, self._head_bytes, self.size_bytes = _range_of(reply)
            if start:
                raise _another_range(reply)

    async def read(self, start: int, stop: int) -> bytes:
        """See `Place.read`."""
        if self._head is None:
            self._head = await self._exactly(self._reply, self._head_bytes)
        if start >= len(self._head):
            return await self._read(start, stop)
        found = self._head[start:stop]
        return found + await self._read(len(self._head), stop) if stop > len(self._head) else found

    async def whole(self, max_bytes: int) -> bytes:
        """See `Place.whole`."""
        if self.has_ranges:
            return await self.read(0, self.size_bytes or 0)
        with _errors_of(self._reply.url.host):
            return b"" if self.size_bytes == 0 else await _limited(self._reply, max_bytes)

    async def _read(self, start: int, stop: int) -> bytes:
        headers = {"range": f"bytes={start}-{stop - 1}"}
        with _errors_of(self._reply.url.host):
            async with self._session.get(self._url, headers=headers, **NO_REDIRECTS) as reply:
                _check_status(reply)
                if reply.status != PARTIAL or _version(reply) != self._version:
                    raise changed()
                if _range_of(reply) != (start, stop, self.size_bytes):
                    raise _another_range(reply)
                return await self._exactly(reply, stop - start)

    async def _exactly(self, reply: aiohttp.ClientResponse, n_bytes: int) -> bytes:
        with _errors_of(reply.url.host):
            content = await _limited(reply, n_bytes)
        if len(content) != n_bytes:
            raise _another_range(reply)
        return content


@asynccontextmanager
async def open_https(
    parts: SplitResult, lookup: Lookup, is_private: bool, tls: ssl.SSLContext | None
) -> AsyncIterator[HttpsFile]:
    """Open a file.

    Args:
        parts: its URI.
        lookup: finds the addresses of a host.
        is_private: whether the addresses need not be public.
        tls: settings of TLS; None for the system's certificates.

    Raises:
        SourceForbiddenError: an address is not public, or the server denies access or redirects.
        SourceNotFoundError: the file does not exist.
        SourceUnavailableError: the server does not answer.
    """
    host = parts.netloc
    connector = aiohttp.TCPConnector(
        resolver=Pinned(await _addresses(host, lookup, is_private)),
        ssl=tls or True,
        use_dns_cache=False,
    )
    # no cookies, no credentials of .netrc, no proxy of the environment, no decompression
    async with aiohttp.ClientSession(
        connector=connector, trust_env=False, auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"accept": "*/*", "accept-encoding": "identity"},
    ) as session:  # fmt: skip
        url, headers = parts.geturl(), {"range": f"bytes=0-{HEAD_BYTES - 1}"}
        with _errors_of(host):
            reply = await session.get(url, headers=headers, **NO_REDIRECTS)
        async with reply:
            _check_status(reply)
            yield HttpsFile(session, url, reply)


async def _addresses(host: str, lookup: Lookup, is_private: bool) -> Sequence[str]:
    try:
        addresses = await lookup(host, HTTPS_PORT)
    except OSError as error:
        raise SourceUnavailableError(f"the host {host} is not known") from error
    for address in addresses:
        if not is_private and not is_public(address):
            raise SourceForbiddenError(f"the host {host} has an address that is not public")
    return addresses


async def _limited(reply: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The body, or somewhat more than max_bytes of it."""
    content = bytearray()
    async for chunk in reply.content.iter_chunked(CHUNK_BYTES):
        content += chunk
        if len(content) > max_bytes:
            break
    return bytes(content)


def _version(reply: aiohttp.ClientResponse) -> tuple[str | None, ...]:
    return tuple(reply.headers.get(name) for name in ("etag", "last-modified"))


def _range_of(reply: aiohttp.ClientResponse) -> tuple[int, int, int]:
    """Start and stop of a part, and the size of the file, bytes."""
    found = CONTENT_RANGE.fullmatch(reply.headers.get("content-range", ""))
    if found is None:
        raise _another_range(reply)
    start, last, size_bytes = (int(each) for each in found.groups())
    return start, last + 1, size_bytes


def _another_range(reply: aiohttp.ClientResponse) -> SourceUnavailableError:
    return SourceUnavailableError(f"the host {reply.url.host} sent other bytes than it was asked")


def _check_status(reply: aiohttp.ClientResponse) -> None:
    status, host = reply.status, reply.url.host
    if status in (200, PARTIAL, NO_SUCH_RANGE):
        return
    if status in (404, 410):
        raise SourceNotFoundError(f"the host {host} has no such file")
    if status in (401, 403):
        raise SourceForbiddenError(f"the host {host} does not let the service read the file")
    if 300 <= status < 400:
        raise SourceForbiddenError(f"the host {host} redirects, which the service does not follow")
    raise SourceUnavailableError(f"the host {host} answered with status {status}")


@contextmanager
def _errors_of(host: str | None) -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, OSError) as error:
        if isinstance(error, TimeoutError):
            raise
        raise SourceUnavailableError(
            f"the host {host} did not send the file: {type(error).__name__}"
        ) from error
