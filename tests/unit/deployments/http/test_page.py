"""The pages are served whole, from this origin alone, without a key, and as they were published."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
from starlette.testclient import TestClient

from deployments.config import HttpConfig
from deployments.http.api import create_app
from deployments.http.keys import Keys
from deployments.http.page import FOLDER
from tests.support.http import InProcess, check_error

TEXTS = [path for path in FOLDER.glob("*.*") if path.suffix in (".html", ".js", ".css")]


def test_a_page_allows_its_own_files_only(client: TestClient) -> None:
    first, second = client.get("/"), client.get("/")
    policy = first.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; ")
    (nonce,) = re.findall(r"'nonce-([^']+)'", policy)
    assert f'content="{nonce}"' in first.text
    assert nonce not in second.text, "a nonce is used once"
    assert first.headers["cache-control"] == "no-cache"
    assert client.get("/docs").status_code == 200


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_no_file_names_another_origin(path: object) -> None:
    text = path.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text)


def test_every_file_that_the_pages_name_is_there(client: TestClient) -> None:
    named = set()
    for path in TEXTS:
        named |= set(re.findall(r"static/[\w./-]+", path.read_text(encoding="utf-8")))
        named |= {
            f"static/{each}"
            for each in re.findall(r'"\./([\w./-]+\.js)"', path.read_text(encoding="utf-8"))
        }
    assert len(named) > 10
    for each in named:
        reply = client.get(f"/{each}")
        assert reply.status_code == 200, each
        assert reply.headers["x-content-type-options"] == "nosniff"
        again = client.get(f"/{each}", headers={"if-none-match": reply.headers["etag"]})
        assert again.status_code == 304


def test_nothing_outside_the_folder_is_served(client: TestClient) -> None:
    for path in ("/static/../config.py", "/static/%2e%2e/config.py", "/static/", "/static/none.js"):
        assert client.get(path).status_code == 404, path


def test_the_pages_need_no_key_and_the_rest_does(service: InProcess) -> None:
    with TestClient(create_app(service, HttpConfig(), keys=Keys("secret"))) as client:
        for path in ("/", "/docs", "/openapi.json", "/static/app.js"):
            assert client.get(path).status_code == 200, path
        for path in ("/v1/labels", "/v1/stats", "/v1/example.wav", "/v2", "/staticfiles"):
            check_error(client.get(path), 401, "unauthorized")


def test_libraries_are_what_was_published() -> None:
    vendor = FOLDER / "vendor"
    packages = json.loads((vendor / "versions.json").read_text(encoding="utf-8"))
    digests = {file["name"]: file["sha256"] for each in packages for file in each["files"]}
    found = {path.name for path in vendor.iterdir()} - {"versions.json"}
    assert found == set(digests)
    for name, digest in digests.items():
        assert hashlib.sha256((vendor / name).read_bytes()).hexdigest() == digest, name
