"""Features of content that was seen before: memory first, then a folder.

The key is the BLAKE3 digest of the bytes with a digest of every setting that shapes the features,
and the effort. Entries are plain .npy arrays, never pickles.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from acoustic.content_cache import CacheConfig, FolderCache, MemoryCache
from acoustic.request import Effort
from acoustic.types import AudioInfo, Descriptors, Quality, Segment, TrackFacts, TrackFeatures

FEATURES_VERSION = 7
"""Counted up when the code makes other features of the same bytes and settings."""


class FeatureCache:
    """Two levels of content-addressed features; thread-safe.

    Args:
        config: bounds.
        digest: digest of the settings that shape the features.
    """

    def __init__(self, config: CacheConfig, digest: str) -> None:
        self._digest = digest
        self._memory = MemoryCache[TrackFeatures](config.memory_bytes)
        self._folder = (
            FolderCache(Path(config.folder), config.folder_bytes, ".npy") if config.folder else None
        )

    def get(
        self, content_blake3: str, effort: Effort, round_number: int = 0
    ) -> TrackFeatures | None:
        """The entry without timings, or None."""
        key = self._key(content_blake3, effort, round_number)
        features = self._memory.get(key)
        if features is None and self._folder is not None:
            entry = self._folder.get(key)
            if entry is not None:
                features = self._usable(key, entry, content_blake3)
        return features

    def _usable(self, key: str, entry: bytes, content_blake3: str) -> TrackFeatures | None:
        """The features of an entry; one with a right digest and another inside is removed."""
        assert self._folder is not None
        try:
            features = features_from_bytes(entry, content_blake3)
        except Exception:  # of whatever kind: it is a miss
            self._folder.remove(key)
            return None
        self._memory.put(key, features, features.log_mel.nbytes)
        return features

    def put(self, effort: Effort, features: TrackFeatures, round_number: int = 0) -> None:
        """Keep one track's features."""
        key = self._key(features.facts.content_blake3, effort, round_number)
        entry = replace(features, timings_ms={})
        self._memory.put(key, entry, entry.log_mel.nbytes)
        if self._folder is not None:
            self._folder.put(key, features_to_bytes(entry))

    def _key(self, content_blake3: str, effort: Effort, round_number: int) -> str:
        name = f"{FEATURES_VERSION}:{content_blake3}:{self._digest}:{effort}:{round_number}"
        return hashlib.sha256(name.encode()).hexdigest()


def features_to_bytes(features: TrackFeatures) -> bytes:
    """The features as bytes, without their timings and without pickle.

    Two arrays: the spectrogram, and the rest as JSON.
    """
    facts = asdict(features.facts)
    file = io.BytesIO()
    np.save(file, features.log_mel, allow_pickle=False)
    np.save(file, np.frombuffer(json.dumps(facts).encode(), np.uint8), allow_pickle=False)
    return file.getvalue()


def features_from_bytes(entry: bytes, content_blake3: str) -> TrackFeatures:
    """The features that `features_to_bytes` wrote.

    Raises:
        Exception: of any kind, where the bytes are others.
    """
    file = io.BytesIO(entry)
    log_mel = np.load(file, allow_pickle=False)
    facts = json.loads(np.load(file, allow_pickle=False).tobytes())
    restored = TrackFacts(
        segments=tuple(Segment(**each) for each in facts.pop("segments")),
        info=AudioInfo(**facts.pop("info")),
        quality=Quality(**facts.pop("quality")),
        descriptors=Descriptors(**facts.pop("descriptors")),
        **facts,
    )
    if log_mel.ndim != 3 or len(log_mel) != len(restored.segments) or not log_mel.size:
        raise ValueError(f"windows of shape {log_mel.shape} for {len(restored.segments)} segments")
    if log_mel.dtype not in (np.uint8, np.float16) or not np.isfinite(log_mel).all():
        raise ValueError(f"windows of type {log_mel.dtype}, or not finite")
    return TrackFeatures(
        log_mel=log_mel, facts=replace(restored, content_blake3=content_blake3, cached=True)
    )
