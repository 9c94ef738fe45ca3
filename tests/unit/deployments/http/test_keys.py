"""Named keys: files, limits, reload, what is refused."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from acoustic.errors import ConfigError, OverloadedError, UnauthorizedError
from acoustic.pipeline import Pipeline
from deployments.config import HttpConfig
from deployments.http.api import create_app
from deployments.http.keys import RELOAD_S, Keys
from tests.support.http import WAV, InProcess, check_error

STUDIO, ARCHIVE = "studio-secret-0123456789", "archive-secret-0123456789"
FILE = f"""
keys:
  - name: studio
    key: {STUDIO}
    requests_per_minute: 2
  - name: archive
    key_sha256: {hashlib.sha256(ARCHIVE.encode()).hexdigest()}
    requests_per_day: 3
"""


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.yaml"
    path.write_text(FILE)
    return path


def bearer(secret: str) -> bytes:
    return f"Bearer {secret}".encode()


def test_a_key_has_a_name(file: Path, clock: Clock) -> None:
    keys = Keys("single-secret", file, clock)
    assert not keys.is_open
    assert keys.name_of(bearer(STUDIO)) == "studio"
    assert keys.name_of(bearer(ARCHIVE)) == "archive"
    assert keys.name_of(bearer("single-secret")) == "default"
    for wrong in (b"", b"Bearer", bearer(""), bearer("studio"), b"Basic " + STUDIO.encode()):
        with pytest.raises(UnauthorizedError):
            keys.name_of(wrong)


def test_without_keys_the_service_is_open() -> None:
    assert Keys().is_open


def test_a_rate_comes_back_steadily(file: Path, clock: Clock) -> None:
    keys = Keys("", file, clock)
    for _ in range(2):
        keys.name_of(bearer(STUDIO))
    with pytest.raises(OverloadedError, match="studio has used up") as refused:
        keys.name_of(bearer(STUDIO))
    assert refused.value.retry_after_s == pytest.approx(30.0)
    keys.name_of(bearer(ARCHIVE))  # another key is not touched
    clock.now_s = 29.0
    with pytest.raises(OverloadedError):
        keys.name_of(bearer(STUDIO))
    clock.now_s = 30.1
    keys.name_of(bearer(STUDIO))


def test_a_refused_request_uses_nothing_up(file: Path, clock: Clock) -> None:
    keys = Keys("", file, clock)
    for _ in range(3):
        keys.name_of(bearer(ARCHIVE))
    for _ in range(100):
        with pytest.raises(OverloadedError):
            keys.name_of(bearer(ARCHIVE))
    clock.now_s = 86_400 / 3 + 1
    keys.name_of(bearer(ARCHIVE))


def changed(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, ns=(path.stat().st_mtime_ns + 10**9,) * 2)


def test_a_new_file_is_read_while_the_service_runs(file: Path, clock: Clock) -> None:
    keys = Keys("", file, clock)
    keys.name_of(bearer(STUDIO))
    keys.name_of(bearer(STUDIO))
    changed(file, FILE.replace("archive", "vault"))
    clock.now_s += RELOAD_S
    assert keys.name_of(bearer(ARCHIVE)) == "vault"
    with pytest.raises(OverloadedError):
        keys.name_of(bearer(STUDIO))  # what it used before counts
    changed(file, FILE.replace(STUDIO, "another-secret-0123456789"))
    clock.now_s += RELOAD_S
    with pytest.raises(UnauthorizedError):
        keys.name_of(bearer(STUDIO))


@pytest.mark.parametrize("damage", ["keys: [", "keys: []", "", "gone"])
def test_a_file_that_cannot_be_used_leaves_the_keys(
    file: Path, clock: Clock, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    keys = Keys("", file, clock)
    if damage == "gone":
        file.unlink()
    else:
        changed(file, damage)
    clock.now_s += RELOAD_S
    assert keys.name_of(bearer(ARCHIVE)) == "archive"
    assert "the old ones stay" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("keys: []", "keys is empty"),
        ("keys: [{name: a}]", "one of key and key_sha256"),
        ("keys: [{name: a, key: short}]", "shorter than 16"),
        ("keys: [{name: 'a b', key: 0123456789abcdef0}]", "name"),
        ("keys: [{name: a, key_sha256: XY}]", "SHA-256"),
        ("keys: [{name: a, key: x123456789abcdef0, requests_per_minute: 0}]", "must be positive"),
        ("keys: [{name: a, key: x123456789abcdef0, rate: 3}]", "rate"),
        (FILE.replace("archive", "studio"), "the same name"),
        (FILE.replace("archive", "default"), "the name default"),
    ],
)
def test_mistakes_are_found_at_the_start(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Keys("single", path)


def test_over_http(pipeline: Pipeline, file: Path, clock: Clock) -> None:
    app = create_app(InProcess(pipeline), HttpConfig(), keys=Keys("", file, clock))
    with TestClient(app) as client:
        check_error(client.get("/v1/labels"), 401, "unauthorized")
        headers = {"authorization": f"bearer {STUDIO}"}
        for _ in range(2):
            assert client.post("/v1/classify", content=WAV, headers=headers).status_code == 200
        refused = client.post("/v1/classify", content=WAV, headers=headers)
        check_error(refused, 429, "overloaded")
        assert refused.headers["retry-after"] == "30"
        assert client.get("/healthz").headers["x-content-type-options"] == "nosniff"
