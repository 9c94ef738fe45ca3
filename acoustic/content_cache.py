"""Bounded storage of results by the content that they were made from: in memory, and in a folder.

A folder may be shared by several processes: files appear by atomic rename, and begin with a digest
of what follows, so that a damaged one is a miss.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

UNFINISHED = ".tmp"
UNFINISHED_AGE_S = 600.0
"""Seconds after which a file that is still being written is one of a process that died."""

TRIM_TO_RATIO = 0.9
"""A full folder is trimmed to this share of its limit, oldest use first."""

RESCAN_EVERY = 256
"""Number of stores after which the folder is measured again: other processes fill it too."""

DIGEST_BYTES = 32

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheConfig:
    """Bounds of the caches.

    Attributes:
        memory_bytes: spectrogram bytes that each process of stage 1 keeps in memory, 0 for none.
        answer_bytes: bytes of answers that each ingress keeps in memory, 0 for none.
        folder: folder that all processes share, "" for memory only.
        folder_bytes: bytes of spectrograms kept in the folder.
        folder_answer_bytes: bytes of answers kept in the folder.
    """

    memory_bytes: int = 64 << 20
    answer_bytes: int = 16 << 20
    folder: str = ""
    folder_bytes: int = 2 << 30
    folder_answer_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        if min(self.memory_bytes, self.answer_bytes) < 0:
            raise ValueError("memory_bytes and answer_bytes must not be negative")
        if min(self.folder_bytes, self.folder_answer_bytes) < 1:
            raise ValueError("folder_bytes and folder_answer_bytes must be positive")


def sealed(content: bytes, key: str = "") -> bytes:
    """The bytes behind a digest of them and of the key that they are kept under."""
    return _digest(key, content) + content


def unsealed(entry: bytes, key: str = "") -> bytes | None:
    """The bytes that were sealed under this key, or None: damaged, or of another entry."""
    digest, content = entry[:DIGEST_BYTES], entry[DIGEST_BYTES:]
    return content if _digest(key, content) == digest else None


def _digest(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\0" + content).digest()


class MemoryCache(Generic[T]):
    """Values by key, up to a number of bytes, oldest use first; thread-safe.

    Args:
        max_bytes: bytes that all values may have together; a larger value is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._values: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._n_bytes = 0

    def get(self, key: str) -> T | None:
        """The value, or None."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: str, value: T, n_bytes: int) -> None:
        """Keep a value that has n_bytes, unless there is one with this key."""
        if not 0 < n_bytes <= self._max_bytes:
            return
        with self._lock:
            if key not in self._values:
                self._values[key] = (value, n_bytes)
                self._n_bytes += n_bytes
            while self._n_bytes > self._max_bytes:
                _, (_, n_oldest) = self._values.popitem(last=False)
                self._n_bytes -= n_oldest

    def remove(self, key: str) -> None:
        """Forget a value."""
        with self._lock:
            if key in self._values:
                self._n_bytes -= self._values.pop(key)[1]


class FolderCache:
    """Bytes by key in a folder, up to a number of bytes; thread-safe.

    A folder that is full or may only be read is logged, not an error.

    Args:
        folder: created if it is missing.
        max_bytes: bytes that the files may have together.
        suffix: end of the files' names; others are left alone.
    """

    def __init__(self, folder: Path, max_bytes: int, suffix: str) -> None:
        self._folder, self._max_bytes, self._suffix = folder, max_bytes, suffix
        self._lock = threading.Lock()
        self._n_stored = 0
        self._make_folder()
        self._n_bytes = self._measured()

    def get(self, key: str) -> bytes | None:
        """The bytes, or None; a damaged file is removed."""
        path = self._path(key)
        try:
            entry = path.read_bytes()
        except OSError:
            return None
        content = unsealed(entry, key)
        if content is None:
            self.remove(key)
        else:
            with contextlib.suppress(OSError):  # a folder that may only be read still serves
                os.utime(path)
        return content

    def remove(self, key: str) -> None:
        """Remove an entry that cannot be used."""
        logger.warning("unusable cache entry removed key=%s", key[:12])
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def put(self, key: str, content: bytes) -> None:
        """Keep some bytes."""
        try:
            self._store(self._path(key), sealed(content, key))
        except OSError as error:
            logger.warning("cache folder cannot be written error=%s", error.strerror)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{self._suffix}"

    def _make_folder(self) -> None:
        """For this user alone: whoever can write into it decides what is answered."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def _store(self, path: Path, entry: bytes) -> None:
        if not self._folder.is_dir():  # somebody has cleaned up
            self._make_folder()
        with tempfile.NamedTemporaryFile(dir=self._folder, suffix=UNFINISHED, delete=False) as file:
            try:
                file.write(entry)
                file.flush()
                os.replace(file.name, path)
            finally:
                Path(file.name).unlink(missing_ok=True)
        with self._lock:
            self._n_bytes += len(entry)
            self._n_stored += 1
            if self._n_stored % RESCAN_EVERY == 0:
                self._n_bytes = self._measured()
            if self._n_bytes > self._max_bytes:
                self._trim()

    def _measured(self) -> int:
        """Bytes of all entries; what dead processes left unfinished is removed."""
        for path in self._folder.glob(f"*{UNFINISHED}"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > UNFINISHED_AGE_S:
                    path.unlink()
        return sum(size for _, size, _ in self._entries())

    def _trim(self) -> None:
        """Remove the entries whose last use is oldest; another process may be doing the same."""
        entries = sorted(self._entries())
        total = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if total <= self._max_bytes * TRIM_TO_RATIO:
                break
            path.unlink(missing_ok=True)
            total -= size
        self._n_bytes = total

    def _entries(self) -> list[tuple[float, int, Path]]:
        """Time of last use, size and path of every entry that is still there when looked at."""
        found = []
        for path in self._folder.glob(f"*{self._suffix}"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        return found
