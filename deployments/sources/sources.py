"""Opens what a URI names, if the operator has allowed its place."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from urllib.parse import SplitResult, unquote

from acoustic.errors import OverloadedError, SourceForbiddenError
from deployments.sources.config import OBJECT_STORES, SourcesConfig
from deployments.sources.https import open_https
from deployments.sources.local import open_local
from deployments.sources.objects import StoredObject
from deployments.sources.public_addresses import Lookup, system_lookup
from deployments.sources.remote_file import Place, RemoteFile, late
from deployments.sources.threads import FewThreads
from deployments.sources.uri import parsed

MAX_AT_A_TIME = 4
"""Files by reference in the memory of an ingress, and reads that may hang."""


class Sources:
    """Opens files by URI.

    Args:
        config: places that are allowed.
        max_bytes: most bytes that are read of a file.
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
        self._threads = FewThreads(MAX_AT_A_TIME)
        self._n_open = 0
        self._roots = tuple(os.path.realpath(root) for root in config.roots)

    @asynccontextmanager
    async def opened(self, uri: str) -> AsyncIterator[RemoteFile]:
        """The file that a URI names, one of a few at a time.

        Raises:
            OverloadedError: there are as many as may be.
            InvalidRequestError: the URI is malformed.
            SourceForbiddenError: its place is not allowed.
            SourceNotFoundError: the file does not exist.
            SourceUnavailableError: the place does not answer, or not in time.
            UploadTooLargeError: the file is larger than the limit.
        """
        if self._n_open >= MAX_AT_A_TIME:
            raise OverloadedError(
                f"the service is busy: it reads {MAX_AT_A_TIME} files by reference at a time; try "
                "again later"
            )
        place, config = self._place_of(parsed(uri)), self._config
        self._n_open += 1
        try:
            async with AsyncExitStack() as stack:
                try:
                    async with asyncio.timeout(config.timeout_s):
                        found = await stack.enter_async_context(place)
                except TimeoutError as error:
                    raise late(config.timeout_s) from error
                yield RemoteFile(found, self._max_bytes, config.max_file_bytes, config.timeout_s)
        finally:
            self._n_open -= 1

    def _place_of(self, parts: SplitResult) -> AbstractAsyncContextManager[Place]:
        config, host = self._config, parts.netloc
        if parts.scheme == "https" and host in (*config.hosts, *config.private_hosts):
            return open_https(parts, self._lookup, host in config.private_hosts, self._tls)
        if parts.scheme in OBJECT_STORES and f"{parts.scheme}://{host}" in config.buckets:
            return self._opened_object(parts)
        if parts.scheme == "file" and not host and self._roots:
            return self._opened_local(parts)
        raise SourceForbiddenError(
            "the service does not read from there: the operator can allow the place in sources"
        )

    @asynccontextmanager
    async def _opened_object(self, parts: SplitResult) -> AsyncIterator[Place]:
        uri = f"{parts.scheme}://{parts.netloc}{unquote(parts.path)}"
        timeout_s = self._config.timeout_s
        yield await self._threads.run(lambda: StoredObject(uri, timeout_s, self._threads))

    @asynccontextmanager
    async def _opened_local(self, parts: SplitResult) -> AsyncIterator[Place]:
        path = unquote(parts.path)
        file = await self._threads.run(lambda: open_local(path, self._roots, self._threads))
        try:
            yield file
        finally:
            file.close()
