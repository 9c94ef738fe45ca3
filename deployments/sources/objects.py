"""Objects in stores such as S3."""

from __future__ import annotations

from typing import Any

from acoustic.errors import SourceNotFoundError, SourceUnavailableError
from deployments.sources.remote_file import changed
from deployments.sources.threads import FewThreads


class StoredObject:
    """An object; see `Place`.

    Args:
        uri: its URI, for messages.
        timeout_s: longest time of one request, seconds.
        threads: threads in which it is read.

    Raises:
        SourceNotFoundError: the object does not exist.
        SourceUnavailableError: the store does not answer, or the extra is not installed.
    """

    has_ranges = True

    def __init__(self, uri: str, timeout_s: float, threads: FewThreads) -> None:
        try:
            from deployments.batch.storage import StorageOptions, open_filesystem
        except ImportError as error:
            raise SourceUnavailableError("object stores need the extra batch") from error
        self._uri, self._threads = uri, threads
        self._filesystem, self._path = open_filesystem(uri, StorageOptions(timeout_s=timeout_s))
        self._version = self._stored()
        self.size_bytes: int | None = self._version[0]

    async def read(self, start: int, stop: int) -> bytes:
        """See `Place.read`."""
        return await self._threads.run(lambda: self._read(start, stop))

    async def whole(self, max_bytes: int) -> bytes:
        """See `Place.whole`."""
        return await self._threads.run(lambda: self._read(0, self._version[0]))

    def _read(self, start: int, stop: int) -> bytes:
        from deployments.batch.storage import translating_store_errors

        with (
            translating_store_errors(self._uri),
            self._filesystem.open_input_file(self._path) as stream,
        ):
            content: bytes = stream.read_at(stop - start, start)
        if len(content) < stop - start or self._stored() != self._version:
            raise changed()
        return content

    def _stored(self) -> tuple[int, Any]:
        """Size in bytes, and when it was written."""
        from deployments.batch.storage import translating_store_errors

        with translating_store_errors(self._uri):
            info = self._filesystem.get_file_info(self._path)
        if info.size is None:
            raise SourceNotFoundError(f"{self._uri} does not exist")
        return info.size, info.mtime_ns
