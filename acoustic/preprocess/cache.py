"""Features of content that was seen before: memory first, then a folder.

The key is the SHA-256 of the bytes with a digest of every setting that shapes the features, and
the effort. Entries are plain .npy arrays, never pickles; the folder may be shared by several
processes: files appear by atomic rename, and a damaged one is a miss.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import tempfile
import threading
from collections import OrderedDict
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from acoustic.request import Effort
from acoustic.types import AudioInfo, Descriptors, Quality, Segment, TrackFacts, TrackFeatures

logger = logging.getLogger(__name__)

TRIM_TO_RATIO = 0.9
"""A full folder is trimmed to this share of its limit, oldest use first."""


FEATURES_VERSION = 6
"""Counted up when the code makes other features of the same bytes and settings."""

RESCAN_EVERY = 256
"""Number of stores after which the folder is measured again: other processes fill it too."""

DIGEST_BYTES = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheConfig:
    """Bounds of the cache.

    Attributes:
        memory_bytes: spectrogram bytes kept in memory, 0 for none.
        folder: where entries are kept on disk, "" for nowhere.
        folder_bytes: bytes kept in the folder.
    """

    memory_bytes: int = 64 << 20
    folder: str = ""
    folder_bytes: int = 2 << 30

    def __post_init__(self) -> None:
        if self.memory_bytes < 0 or self.folder_bytes < 1:
            raise ValueError("memory_bytes must not be negative, folder_bytes must be positive")


class FeatureCache:
    """Two levels of content-addressed features; thread-safe.

    Args:
        config: bounds.
        digest: digest of the settings that shape the features.
    """

    def __init__(self, config: CacheConfig, digest: str) -> None:
        self._config = config
        self._digest = digest
        self._lock = threading.Lock()
        self._memory: OrderedDict[str, TrackFeatures] = OrderedDict()
        self._memory_bytes = 0
        self._n_stored = 0
        self._folder = Path(config.folder) if config.folder else None
        if self._folder:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._folder_bytes = sum(size for _, size, _ in _entries(self._folder))

    def get(
        self, content_sha256: str, effort: Effort, round_number: int = 0
    ) -> TrackFeatures | None:
        """The entry without timings, or None."""
        key = self._key(content_sha256, effort, round_number)
        with self._lock:
            if features := self._memory.get(key):
                self._memory.move_to_end(key)
                return features
        features = self._load(key, content_sha256)
        if features:
            self._remember(key, features)
        return features

    def put(self, effort: Effort, features: TrackFeatures, round_number: int = 0) -> None:
        """Keep one track's features. A full or read-only folder is logged, not an error."""
        key = self._key(features.facts.content_sha256, effort, round_number)
        entry = replace(features, timings_ms={})
        self._remember(key, entry)
        if self._folder is None:
            return
        try:
            self._store(self._folder / f"{key}.npy", features_to_bytes(entry))
        except OSError as error:
            logger.warning("feature cache folder cannot be written error=%s", error.strerror)

    def _key(self, content_sha256: str, effort: Effort, round_number: int) -> str:
        name = f"{FEATURES_VERSION}:{content_sha256}:{self._digest}:{effort}:{round_number}"
        return hashlib.sha256(name.encode()).hexdigest()

    def _remember(self, key: str, features: TrackFeatures) -> None:
        if features.log_mel.nbytes > self._config.memory_bytes:
            return
        with self._lock:
            if key not in self._memory:
                self._memory[key] = features
                self._memory_bytes += features.log_mel.nbytes
            while self._memory_bytes > self._config.memory_bytes:
                _, oldest = self._memory.popitem(last=False)
                self._memory_bytes -= oldest.log_mel.nbytes

    def _load(self, key: str, content_sha256: str) -> TrackFeatures | None:
        if self._folder is None:
            return None
        path = self._folder / f"{key}.npy"
        try:
            entry = path.read_bytes()
        except OSError:
            return None
        features = features_from_bytes(entry, content_sha256)
        with contextlib.suppress(OSError):  # a folder that may only be read still serves
            if features is None:
                logger.warning("damaged feature cache entry removed key=%s", key[:12])
                path.unlink()
            else:
                os.utime(path)
        return features

    def _store(self, path: Path, entry: bytes) -> None:
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            try:
                file.write(entry)
                file.flush()
                os.replace(file.name, path)
            finally:
                Path(file.name).unlink(missing_ok=True)
        with self._lock:
            self._folder_bytes += len(entry)
            self._n_stored += 1
            if self._n_stored % RESCAN_EVERY == 0:
                self._folder_bytes = sum(size for _, size, _ in _entries(path.parent))
            if self._folder_bytes > self._config.folder_bytes:
                self._trim(path.parent)

    def _trim(self, folder: Path) -> None:
        """Remove the entries whose last use is oldest; another process may be doing the same."""
        entries = sorted(_entries(folder))
        total = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if total <= self._config.folder_bytes * TRIM_TO_RATIO:
                break
            path.unlink(missing_ok=True)
            total -= size
        self._folder_bytes = total


def _entries(folder: Path) -> list[tuple[float, int, Path]]:
    """Time of last use, size and path of every entry that is still there when it is looked at."""
    found = []
    for path in folder.glob("*.npy"):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    return found


def features_to_bytes(features: TrackFeatures) -> bytes:
    """The features as bytes, without their timings and without pickle.

    A digest, then two arrays: the spectrogram, and the rest as JSON.
    """
    facts = asdict(features.facts)
    file = io.BytesIO()
    np.save(file, features.log_mel, allow_pickle=False)
    np.save(file, np.frombuffer(json.dumps(facts).encode(), np.uint8), allow_pickle=False)
    content = file.getvalue()
    return hashlib.sha256(content).digest() + content


def features_from_bytes(entry: bytes, content_sha256: str) -> TrackFeatures | None:
    """The entry, or None if it is not exactly what was written."""
    digest, content = entry[:DIGEST_BYTES], entry[DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        return None
    file = io.BytesIO(content)
    log_mel = np.load(file, allow_pickle=False)
    facts = json.loads(np.load(file, allow_pickle=False).tobytes())
    restored = TrackFacts(
        segments=tuple(Segment(**each) for each in facts.pop("segments")),
        info=AudioInfo(**facts.pop("info")),
        quality=Quality(**facts.pop("quality")),
        descriptors=Descriptors(**facts.pop("descriptors")),
        **facts,
    )
    return TrackFeatures(
        log_mel=log_mel, facts=replace(restored, content_sha256=content_sha256, cached=True)
    )
