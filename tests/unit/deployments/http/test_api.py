"""HTTP API with the pipeline in process, or a given error, instead of the deployments."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from acoustic import errors
from acoustic.errors import AcousticError
from acoustic.pipeline import Pipeline
from acoustic.prediction import Prediction
from acoustic.request import RequestOptions
from deployments.config import HttpConfig
from deployments.http.api import create_app
from deployments.http.errors import STATUS_BY_CODE
from deployments.http.keys import Keys
from deployments.http.spectrogram import to_levels
from deployments.sources.config import SourcesConfig
from deployments.sources.sources import Sources
from tests.support.http import (
    FORM,
    FORM_X,
    JSON,
    OTHER_WAV,
    WAV,
    InProcess,
    check_error,
    without_timings,
)
from tests.support.schema import check_schema
from tests.support.sounds import encode, noise


def test_raw_body(client: TestClient, pipeline: Pipeline) -> None:
    response = client.post("/v1/classify?top_k=2&file=a.wav&timeline=true", content=WAV)
    assert response.status_code == 200
    expected = pipeline.classify(
        WAV, RequestOptions(top_k=2, file="a.wav", timeline=True)
    ).to_dict()
    assert without_timings(response.json()) == without_timings(expected)
    assert "inference;dur=" in response.headers["server-timing"]


def test_audio_by_reference(pipeline: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "a b.wav").write_bytes(WAV)
    service = InProcess(pipeline)
    service.sources = Sources(SourcesConfig(roots=(str(tmp_path),)), 10**7)
    uri = f"file://{tmp_path}/a%20b.wav"
    with TestClient(create_app(service, HttpConfig())) as client:
        body = client.post("/v1/classify", json={"uri": uri, "top_k": 2}).json()
        expected = pipeline.classify(WAV, RequestOptions(top_k=2, file=uri[-255:])).to_dict()
        assert without_timings(body) == without_timings(expected)
        named = client.post("/v1/classify?file=mine", json={"uri": uri}).json()
        assert named["file"] == "mine"
        for wrong in (
            {"uri": uri, "audio": "AAAA"}, {"uri": 3}, {"uri": None}, {},
        ):  # fmt: skip
            check_error(client.post("/v1/classify", json=wrong), 400, "invalid_request")
        outside = client.post("/v1/classify", json={"uri": "file:///etc/passwd"})
        check_error(outside, 403, "source_forbidden")
        gone = client.post("/v1/classify", json={"uri": f"file://{tmp_path}/none.wav"})
        check_error(gone, 404, "source_not_found")
        check_error(client.post("/v1/classify", json={"uri": uri, "effort": "x"}), 422,
                    "invalid_option")  # fmt: skip


def test_a_bug_at_one_file_of_a_form_costs_the_others_nothing(pipeline: Pipeline) -> None:
    class Buggy(InProcess):
        async def classify(self, data: bytes, options: RequestOptions) -> Prediction:
            if options.file == "bad.webm":
                raise AttributeError("rate")
            return await super().classify(data, options)

    files = [("file", ("bad.webm", OTHER_WAV)), ("file", ("good.wav", WAV))]
    with TestClient(create_app(Buggy(pipeline), HttpConfig())) as client:
        response = client.post("/v1/classify", files=files)
    bad, good = response.json()["results"]
    assert bad == {
        "file": "bad.webm", "error": {"code": "service_error", "message": "internal error"},
    }  # fmt: skip
    assert good["top_genre"]


def test_what_the_model_sees(client: TestClient, pipeline: Pipeline) -> None:
    response = client.post("/v1/log-mel?effort=balanced", content=WAV)
    assert response.status_code == 200
    body = response.json()
    features = pipeline.preprocessor.process(WAV, "balanced")
    assert len(body["windows"]) == features.n_windows
    for window, expected in zip(body["windows"], features.log_mel, strict=True):
        levels = np.frombuffer(base64.b64decode(window["levels"]), np.uint8)
        np.testing.assert_array_equal(levels.reshape(expected.shape), expected)
    assert body["band_hz"] == sorted(body["band_hz"])
    assert len(body["band_hz"]) == body["n_mels"]
    length_s = body["windows"][0]["end_s"] - body["windows"][0]["start_s"]
    assert body["hop_s"] * body["n_frames"] == pytest.approx(length_s, rel=0.05)
    check_error(client.post("/v1/log-mel", content=b"no audio"), 415, "unsupported_audio")


def test_levels_of_absolute_windows_span_their_range() -> None:
    windows = np.linspace(-7, 3, 24, dtype=np.float16).reshape(2, 3, 4)
    levels = to_levels(windows)
    assert (levels.min(), levels.max()) == (0, 255)
    assert np.all(np.diff(levels.ravel().astype(int)) > 0)
    assert to_levels(np.full((1, 2, 2), 3, np.float16)).max() == 0


def test_all_three_forms_give_the_same_numbers(client: TestClient) -> None:
    encoded = base64.b64encode(WAV).decode()
    bodies = [
        client.post("/v1/classify?file=a.wav", content=WAV).json(),
        client.post("/v1/classify", files={"file": ("a.wav", WAV)}).json(),
        client.post("/v1/classify", json={"audio": encoded, "file": "a.wav"}).json(),
    ]
    assert without_timings(bodies[0]) == without_timings(bodies[1]) == without_timings(bodies[2])
    check_schema(bodies[0])


def test_options_in_every_form(client: TestClient) -> None:
    encoded = base64.b64encode(WAV).decode()
    options = {"top_k": 1, "effort": "fast", "timeline": True, "coverage": 0.5}
    strings = {"top_k": "1", "effort": "fast", "timeline": "true", "coverage": "0.5"}
    for response in (
        client.post("/v1/classify", params=strings, content=WAV),
        client.post("/v1/classify", data=strings, files={"file": ("a.wav", WAV)}),
        client.post("/v1/classify", json={"audio": encoded, **options}),
    ):
        body = response.json()
        assert len(body["predictions"]) == len(body["segments"]) == len(body["timeline"]) == 1
        assert body["prediction_set"]["coverage"] == 0.5


def test_several_files_are_a_list_with_an_error_per_file(
    client: TestClient, pipeline: Pipeline
) -> None:
    files = [
        ("file", ("a.wav", WAV)),
        ("file", ("b.txt", b"no audio, only text")),
        ("file", ("c.wav", OTHER_WAV)),
    ]
    response = client.post("/v1/classify", files=files)
    assert response.status_code == 200
    first, second, third = response.json()["results"]
    assert second == {
        "file": "b.txt",
        "error": {"code": "unsupported_audio", "message": second["error"]["message"]},
    }
    for found, name, data in ((first, "a.wav", WAV), (third, "c.wav", OTHER_WAV)):
        expected = pipeline.classify(data, RequestOptions(file=name)).to_dict()
        assert without_timings(found) == without_timings(expected)


def test_several_files_that_all_fail_are_no_success(client: TestClient) -> None:
    files = [("file", (f"{i}.txt", b"no audio, only text")) for i in range(2)]
    response = client.post("/v1/classify", files=files)
    assert response.status_code == 415
    assert all("error" in result for result in response.json()["results"])


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"content": b""}, 400, "invalid_request"),
        ({"content": b"{", "headers": JSON}, 400, "invalid_request"),
        ({"content": b"[1]", "headers": JSON}, 400, "invalid_request"),
        ({"content": b"[" * 100_000, "headers": JSON}, 400, "invalid_request"),
        ({"json": {}}, 400, "invalid_request"),
        ({"json": {"audio": "not base64!"}}, 400, "invalid_request"),
        ({"json": {"audio": ""}}, 400, "invalid_request"),
        ({"json": {"audio": "AAAA", "surprise": 1}}, 422, "invalid_option"),
        ({"json": {"audio": "AAAA", "top_k": "many"}}, 422, "invalid_option"),
        ({"json": {"uri": "s3://bucket/song.mp3"}}, 403, "source_forbidden"),
        ({"json": {"uri": "file:///etc/passwd"}}, 403, "source_forbidden"),
        ({"data": {"top_k": "1"}, "files": {"other": ("a.wav", WAV)}}, 400, "invalid_request"),
        ({"files": [("file", (f"{i}", b"x")) for i in range(4)]}, 400, "invalid_request"),
        ({"content": b"--x", "headers": FORM}, 400, "invalid_request"),
        ({"content": b"garbage", "headers": FORM_X}, 400, "invalid_request"),
        ({"params": {"top_k": "0"}, "content": WAV}, 422, "invalid_option"),
        ({"params": {"top_k": "17"}, "content": WAV}, 422, "invalid_option"),
        ({"params": {"coverage": "1"}, "content": WAV}, 422, "invalid_option"),
        ({"params": {"coverage": "0.905"}, "content": WAV}, 422, "invalid_option"),
        ({"params": {"coverage": "0.99"}, "content": WAV}, 422, "invalid_option"),
        ({"params": {"effort": "extreme"}, "content": WAV}, 422, "invalid_option"),
        ({"params": {"topk": "3"}, "content": WAV}, 422, "invalid_option"),
        ({"content": b"surely no audio file"}, 415, "unsupported_audio"),
        ({"content": WAV[:30]}, 422, "audio_decode_failed"),
        ({"content": encode(noise(0.3), 22_050)}, 422, "audio_too_short"),
        ({"content": encode(0 * noise(9.0), 22_050)}, 422, "silent_audio"),
    ],
)  # fmt: skip
def test_bad_requests(client: TestClient, request_: dict[str, Any], status: int, code: str) -> None:
    message = check_error(client.post("/v1/classify", **request_), status, code)
    assert message != "internal error"


@pytest.mark.parametrize("code", sorted(STATUS_BY_CODE))
def test_every_error_has_its_status(client: TestClient, service: InProcess, code: str) -> None:
    classes = [
        c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, AcousticError)
    ]
    (cls,) = (c for c in classes if c.code == code)
    service.error = cls("secret detail of the machine room")
    message = check_error(client.post("/v1/classify", content=WAV), STATUS_BY_CODE[code], code)
    assert ("secret" in message) == (STATUS_BY_CODE[code] != 500)


def test_overload_says_when_to_come_back(client: TestClient, service: InProcess) -> None:
    service.error = errors.OverloadedError("busy", retry_after_s=2.5)
    response = client.post("/v1/classify", content=WAV)
    check_error(response, 429, "overloaded")
    assert response.headers["retry-after"] == "3"


def test_a_bug_leaks_nothing(client: TestClient, service: InProcess) -> None:
    service.error = KeyError("/home/secret")
    response = client.post("/v1/classify", content=WAV)
    assert response.status_code == 500
    assert response.json()["error"] == {"code": "internal_error", "message": "internal error"}


def test_unknown_places_and_methods(client: TestClient) -> None:
    check_error(client.get("/nowhere"), 404, "not_found")
    check_error(client.get("/v1/classify"), 405, "method_not_allowed")


def test_the_callers_request_id_comes_back(client: TestClient) -> None:
    response = client.get("/healthz", headers={"x-request-id": "abc-123"})
    assert response.headers["x-request-id"] == "abc-123"
    assert len(client.get("/healthz").headers["x-request-id"]) == 32


def test_probes(client: TestClient, service: InProcess) -> None:
    assert client.get("/readyz").json() == {"status": "ready"}
    service.error = errors.UnavailableError("not ready")
    assert client.get("/healthz").status_code == 200
    check_error(client.get("/readyz"), 503, "unavailable")


def test_models(client: TestClient) -> None:
    (model,) = client.get("/v1/models").json()["models"]
    assert (model["name"], model["is_default"]) == ("tiny", True)


def test_labels_config_stats_openapi(client: TestClient) -> None:
    labels = client.get("/v1/labels").json()["labels"]
    assert len(labels) == 16
    assert {"name", "aliases", "parent"} == set(labels[0])
    assert client.get("/v1/config").json() == {"checkpoint": "tiny"}
    assert client.get("/v1/stats").json() == {"requests": {}}
    document = client.get("/openapi.json").json()
    assert {"/v1/classify", "/v1/labels", "/healthz"} <= set(document["paths"])
    assert "422" in document["paths"]["/v1/classify"]["post"]["responses"]
    references = set(_references(document))
    assert references <= {
        f"#/components/schemas/{name}" for name in document["components"]["schemas"]
    }


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


class TestApiKey:
    KEY = "s3cret"

    @pytest.fixture
    def guarded(self, service: InProcess) -> Iterator[TestClient]:
        with TestClient(create_app(service, HttpConfig(), keys=Keys(self.KEY))) as client:
            yield client

    @pytest.mark.parametrize(
        "value", [None, "", "Bearer", "Bearer wrong", "s3cret", "Bearer s3cret "]
    )
    def test_without_the_right_key(self, guarded: TestClient, value: str | None) -> None:
        headers = {} if value is None else {"authorization": value.rstrip() + "x"}
        response = guarded.post("/v1/classify", content=WAV, headers=headers)
        check_error(response, 401, "unauthorized")
        assert response.headers["www-authenticate"] == "Bearer"

    def test_with_the_right_key(self, guarded: TestClient) -> None:
        headers = {"authorization": f"Bearer {self.KEY}"}
        assert guarded.post("/v1/classify", content=WAV, headers=headers).status_code == 200

    def test_probes_need_none(self, guarded: TestClient) -> None:
        assert guarded.get("/healthz").status_code == 200
        assert guarded.get("/v1/config").status_code == 401


def test_a_name_that_is_no_text_is_replaced(client: TestClient) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="+2AA-.wav"\r\n\r\n'
        + WAV
        + b"\r\n--x--\r\n"
    )
    headers = {"content-type": "multipart/form-data; boundary=x; charset=utf-7"}
    assert client.post("/v1/classify", content=body, headers=headers).status_code == 200


def test_several_refused_files_say_when_to_come_back(
    client: TestClient, service: InProcess
) -> None:
    service.error = errors.OverloadedError("busy", retry_after_s=2)
    files = [("file", (f"{i}.wav", WAV)) for i in range(2)]
    response = client.post("/v1/classify", files=files)
    assert response.status_code == 429
    assert response.headers["retry-after"] == "2"
    assert response.json()["error"]["code"] == "overloaded"
    assert len(response.json()["results"]) == 2
