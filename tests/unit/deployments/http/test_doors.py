"""Other protocols get the numbers of /v1/classify, and errors in our one form."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
import soundfile as sf
from starlette.testclient import TestClient

from tests.support.http import JSON, check_error
from tests.support.sounds import encode, noise, sweep

WAV, OTHER_WAV = encode(sweep(7.0), 22_050), encode(noise(7.0), 22_050)
HUB = "/v1/audio-classification"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def scores(client: TestClient, data: bytes, **params: Any) -> list[dict[str, Any]]:
    body = client.post("/v1/classify", content=data, params=params).json()
    found: list[dict[str, Any]] = body["predictions"]
    return found


def infer(client: TestClient, inputs: Any, **more: Any) -> Any:
    body = {"inputs": inputs, **more}
    return client.post("/v2/models/tiny/infer", content=json.dumps(body), headers=JSON)


def tensor(*files: bytes) -> list[dict[str, Any]]:
    data = [encoded(each) for each in files]
    return [{"name": "audio", "datatype": "BYTES", "shape": [len(files)], "data": data}]


def test_hugging_faces_task_has_the_same_probabilities(client: TestClient) -> None:
    expected = [
        {"label": each["genre"], "score": each["probability"]} for each in scores(client, WAV)
    ]
    assert client.post(HUB, content=WAV, headers={"content-type": "audio/wav"}).json() == expected
    body = {"inputs": encoded(WAV), "parameters": {"top_k": 3}}
    reply = client.post(HUB, content=json.dumps(body), headers=JSON)
    assert reply.json() == expected[:3]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"inputs": 3}, 400, "invalid_request"),
        ({"inputs": "AAAA", "parameters": [1]}, 400, "invalid_request"),
        ([], 400, "invalid_request"),
        ({"inputs": "AAAA", "parameters": {"top_n": 3}}, 422, "invalid_option"),
        ({"inputs": "AAAA", "parameters": {"function_to_apply": "sigmoid"}}, 422, "invalid_option"),
    ],
)
def test_hugging_faces_task_refuses_what_it_cannot_do(
    client: TestClient, body: Any, status: int, code: str
) -> None:
    check_error(client.post(HUB, content=json.dumps(body), headers=JSON), status, code)


def test_an_unreadable_file_is_an_error_at_every_door(client: TestClient) -> None:
    check_error(client.post(HUB, content=b"no audio"), 415, "unsupported_audio")
    check_error(infer(client, tensor(WAV, b"no audio")), 415, "unsupported_audio")


def test_infer_has_the_same_answers(client: TestClient) -> None:
    reply = infer(client, tensor(WAV, OTHER_WAV), id="7", parameters={"top_k": 4}).json()
    assert (reply["model_name"], reply["id"]) == ("tiny", "7")
    outputs = {each["name"]: each for each in reply["outputs"]}
    assert outputs["genres"]["shape"] == outputs["probabilities"]["shape"] == [2, 4]
    assert outputs["answer"]["shape"] == [2]
    expected = [*scores(client, WAV, top_k=4), *scores(client, OTHER_WAV, top_k=4)]
    assert outputs["genres"]["data"] == [each["genre"] for each in expected]
    assert outputs["probabilities"]["data"] == [each["probability"] for each in expected]
    answer = json.loads(outputs["answer"]["data"][1])
    assert answer["top_genre"] == expected[4]["genre"]


def test_infer_takes_binary_tensors_and_gives_the_wanted_outputs(client: TestClient) -> None:
    binary = b"".join(len(each).to_bytes(4, "little") + each for each in (WAV, OTHER_WAV))
    inputs = [
        {
            "name": "audio",
            "datatype": "BYTES",
            "shape": [2],
            "parameters": {"binary_data_size": len(binary)},
        }
    ]
    head = json.dumps({"inputs": inputs, "outputs": [{"name": "genres"}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    reply = client.post("/v2/models/tiny/infer", content=head + binary, headers=headers).json()
    (output,) = reply["outputs"]
    assert output["shape"][0] == 2
    assert output["data"][0] == scores(client, WAV)[0]["genre"]


def wrong(**changes: Any) -> list[dict[str, Any]]:
    return [{**tensor(WAV)[0], **changes}]


@pytest.mark.parametrize(
    ("inputs", "more"),
    [
        ([], {}),
        ("audio", {}),
        (tensor(WAV) * 2, {}),
        (wrong(name="sound"), {}),
        (wrong(datatype="FP32"), {}),
        (wrong(data=[1]), {}),
        (wrong(data=[]), {}),
        (wrong(data=None), {}),
        (tensor(*[b"x"] * 4), {}),
        (tensor(WAV), {"outputs": [{"name": "labels"}]}),
        (tensor(WAV), {"outputs": ["genres"]}),
        (tensor(WAV), {"parameters": 3}),
    ],
)
def test_infer_refuses_other_forms(client: TestClient, inputs: Any, more: Any) -> None:
    check_error(infer(client, inputs, **more), 400, "invalid_request")


@pytest.mark.parametrize(
    ("head", "binary", "stated"),
    [
        (b"{}", b"", "99"),
        (b"{}", b"", "-1"),
        (b"{", b"", "1"),
        (None, b"\x09\x00\x00\x00abc", None),
        (None, b"\x01", None),
    ],
)
def test_infer_refuses_binary_that_does_not_fit(
    client: TestClient, head: bytes | None, binary: bytes, stated: str | None
) -> None:
    size = {"binary_data_size": len(binary)}
    inputs = [{"name": "audio", "datatype": "BYTES", "shape": [1], "parameters": size}]
    text = json.dumps({"inputs": inputs}).encode() if head is None else head
    headers = {"Inference-Header-Content-Length": stated or str(len(text))}
    reply = client.post("/v2/models/tiny/infer", content=text + binary, headers=headers)
    check_error(reply, 400, "invalid_request")


def test_the_protocols_health_and_metadata(client: TestClient) -> None:
    assert client.get("/v2").json()["name"] == "acousticsense"
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").status_code == 200
    assert client.get("/v2/models/tiny/ready").json() == {"ready": True, "name": "tiny"}
    metadata = client.get("/v2/models/tiny").json()
    assert metadata["inputs"] == [{"name": "audio", "datatype": "BYTES", "shape": [-1]}]
    assert [each["name"] for each in metadata["outputs"]] == ["genres", "probabilities", "answer"]
    for path in ("", "/ready"):
        check_error(client.get(f"/v2/models/none{path}"), 404, "not_found")
    check_error(client.post("/v2/models/none/infer", content=b"{}"), 404, "not_found")


def test_the_example_is_audio_that_can_be_classified(client: TestClient) -> None:
    reply = client.get("/v1/example.wav")
    assert reply.headers["content-type"] == "audio/wav"
    assert sf.info(io.BytesIO(reply.content)).duration == pytest.approx(10.0)
    assert client.post("/v1/classify", content=reply.content).status_code == 200
