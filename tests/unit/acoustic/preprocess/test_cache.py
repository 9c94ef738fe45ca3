"""Feature cache: size limits, sharing between replicas, no pickle, damaged entries ignored."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from acoustic.content_cache import CacheConfig, sealed
from acoustic.preprocess.cache import FeatureCache, features_to_bytes
from acoustic.types import AudioInfo, Quality, Segment, TrackFacts, TrackFeatures
from tests.support.models import DESCRIPTORS

ENTRY_BYTES = 2 * 128 * 144


def features(seed: int) -> TrackFeatures:
    rng = np.random.default_rng(seed)
    return TrackFeatures(
        log_mel=rng.integers(0, 256, (2, 128, 144)).astype(np.uint8),
        facts=TrackFacts(
            segments=(Segment(start_s=0.1, end_s=6.1), Segment(start_s=7.7, end_s=13.7)),
            info=AudioInfo(duration_s=20.0 + seed, sample_rate=44_100, channels=2, format="MP3"),
            quality=Quality(
                rms_db=-12.3,
                silence_ratio=0,
                clipping_ratio=0,
                bandwidth_hz=9e3,
                snr_estimate_db=20,
                channel_cancellation=0.25,
            ),
            descriptors=DESCRIPTORS,
            content_blake3=f"{seed:064x}",
            front_end_digest="d",
        ),
        timings_ms={"decode": 1.0},
    )


def check_equal(found: TrackFeatures | None, stored: TrackFeatures) -> None:
    assert found is not None
    np.testing.assert_array_equal(found.log_mel, stored.log_mel)
    assert found.facts == replace(stored.facts, cached=found.facts.cached)


def test_memory_round_trip() -> None:
    cache = FeatureCache(CacheConfig(), "d")
    cache.put("fast", features(1))
    check_equal(cache.get(features(1).facts.content_blake3, "fast"), features(1))
    assert cache.get(features(1).facts.content_blake3, "balanced") is None
    assert cache.get(features(2).facts.content_blake3, "fast") is None


def test_absolute_levels_keep_their_dtype(tmp_path: Path) -> None:
    stored = replace(features(1), log_mel=features(1).log_mel.astype(np.float16))
    config = CacheConfig(memory_bytes=0, folder=str(tmp_path))
    FeatureCache(config, "d").put("fast", stored)
    found = FeatureCache(config, "d").get(stored.facts.content_blake3, "fast")
    assert found is not None
    assert found.log_mel.dtype == np.float16
    np.testing.assert_array_equal(found.log_mel, stored.log_mel)


def test_memory_is_bounded_and_the_oldest_use_goes_first() -> None:
    cache = FeatureCache(CacheConfig(memory_bytes=3 * ENTRY_BYTES), "d")
    for seed in (1, 2, 3):
        cache.put("fast", features(seed))
    cache.get(features(1).facts.content_blake3, "fast")
    cache.put("fast", features(4))
    kept = [seed for seed in (1, 2, 3, 4) if cache.get(features(seed).facts.content_blake3, "fast")]
    assert kept == [1, 3, 4]


def test_a_folder_is_shared_between_caches(tmp_path: Path) -> None:
    config = CacheConfig(folder=str(tmp_path), memory_bytes=0)
    FeatureCache(config, "d").put("fast", features(1))
    check_equal(
        FeatureCache(config, "d").get(features(1).facts.content_blake3, "fast"), features(1)
    )


def test_another_configuration_finds_nothing(tmp_path: Path) -> None:
    config = CacheConfig(folder=str(tmp_path), memory_bytes=0)
    FeatureCache(config, "d").put("fast", features(1))
    assert FeatureCache(config, "other").get(features(1).facts.content_blake3, "fast") is None


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "pickle"])
def test_a_damaged_entry_is_a_miss_and_goes_away(tmp_path: Path, damage: str) -> None:
    config = CacheConfig(folder=str(tmp_path), memory_bytes=0)
    FeatureCache(config, "d").put("fast", features(1))
    (path,) = tmp_path.glob("*.npy")
    data = bytearray(path.read_bytes())
    data[500] ^= 0xFF
    pickled = np.array([{"a": 1}], dtype=object)
    {
        "truncate": lambda: path.write_bytes(data[: len(data) // 2]),
        "flip": lambda: path.write_bytes(data),
        "empty": lambda: path.write_bytes(b""),
        "pickle": lambda: np.save(path, pickled, allow_pickle=True),
    }[damage]()
    assert FeatureCache(config, "d").get(features(1).facts.content_blake3, "fast") is None
    assert not path.exists()


def test_an_entry_under_the_name_of_another_is_a_miss(tmp_path: Path) -> None:
    config = CacheConfig(folder=str(tmp_path), memory_bytes=0)
    cache = FeatureCache(config, "d")
    cache.put("fast", features(1))
    (first,) = tmp_path.glob("*.npy")
    cache.put("fast", features(2))
    (second,) = set(tmp_path.glob("*.npy")) - {first}
    second.write_bytes(first.read_bytes())
    assert cache.get(features(2).facts.content_blake3, "fast") is None
    assert not second.exists()
    check_equal(cache.get(features(1).facts.content_blake3, "fast"), features(1))


BAD = {
    "no spectrogram": lambda: b"",
    "one array": lambda: features_to_bytes(features(1))[:5000],
    "other facts": lambda: features_to_bytes(features(1)).replace(
        b"silence_ratio", b"silence_ratia"
    ),
    "too few windows": lambda: features_to_bytes(
        replace(features(1), log_mel=features(1).log_mel[:1])
    ),
    "no windows": lambda: features_to_bytes(
        replace(features(1), log_mel=np.zeros((0, 128, 144), np.uint8))
    ),
    "other numbers": lambda: features_to_bytes(
        replace(features(1), log_mel=np.full((2, 128, 144), np.nan, np.float16))
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_right_digest_with_another_inside_is_a_miss_and_goes_away(
    tmp_path: Path, kind: str
) -> None:
    config = CacheConfig(folder=str(tmp_path))
    FeatureCache(config, "d").put("fast", features(1))
    (path,) = tmp_path.glob("*.npy")
    path.write_bytes(sealed(BAD[kind](), path.stem))
    assert FeatureCache(config, "d").get(features(1).facts.content_blake3, "fast") is None
    assert not path.exists()


def test_the_folder_is_private_made_again_and_swept(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    config = CacheConfig(folder=str(folder), memory_bytes=0)
    cache = FeatureCache(config, "d")
    assert folder.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(folder)
    cache.put("fast", features(1))
    assert folder.stat().st_mode & 0o777 == 0o700
    check_equal(cache.get(features(1).facts.content_blake3, "fast"), features(1))
    left, young = folder / "left.tmp", folder / "young.tmp"
    for path in (left, young):
        path.write_bytes(b"half")
    os.utime(left, (1, 1))
    FeatureCache(config, "d")
    assert (left.exists(), young.exists()) == (False, True)


def test_the_folder_is_bounded(tmp_path: Path) -> None:
    config = CacheConfig(folder=str(tmp_path), memory_bytes=0, folder_bytes=5 * ENTRY_BYTES)
    cache = FeatureCache(config, "d")
    for seed in range(12):
        cache.put("fast", features(seed))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 5 * ENTRY_BYTES
    assert cache.get(features(11).facts.content_blake3, "fast") is not None
    assert not list(tmp_path.glob("*.tmp"))


def test_an_unwritable_folder_does_not_fail_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = FeatureCache(CacheConfig(folder=str(tmp_path)), "d")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "no space")

    monkeypatch.setattr(os, "replace", refuse)
    cache.put("fast", features(1))
    check_equal(cache.get(features(1).facts.content_blake3, "fast"), features(1))
    assert not list(tmp_path.iterdir())


def test_timings_are_not_kept() -> None:
    cache = FeatureCache(CacheConfig(), "d")
    cache.put("fast", replace(features(1), timings_ms={"decode": 5.0}))
    found = cache.get(features(1).facts.content_blake3, "fast")
    assert found is not None
    assert found.timings_ms == {}


def test_a_folder_that_may_only_be_read_still_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CacheConfig(folder=str(tmp_path), memory_bytes=0)
    FeatureCache(config, "d").put("fast", features(1))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    cache = FeatureCache(config, "d")
    check_equal(cache.get(features(1).facts.content_blake3, "fast"), features(1))
    (path,) = tmp_path.glob("*.npy")
    path.write_bytes(b"damaged")
    assert cache.get(features(1).facts.content_blake3, "fast") is None
