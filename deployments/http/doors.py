"""Doors for tools that speak other protocols; they translate, the answer is that of /v1/classify.

- Hugging Face: the task audio-classification, a list of label and score.
- Open Inference Protocol, version 2, over HTTP with its binary extension, as Triton and KServe
  have it: health, metadata, and one tensor of files in, tensors of genres, probabilities and
  answers out.

Source: Hugging Face, inference API, audio-classification; KServe, Open Inference Protocol V2;
Triton, binary tensor data extension.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request

from acoustic import __version__
from acoustic.errors import InvalidOptionError, InvalidRequestError
from acoustic.prediction import Prediction
from acoustic.request import RequestOptions
from deployments.http.habits import decode_base64
from deployments.http.options import parse_options

HEADER_LENGTH = "inference-header-content-length"
INPUT, DATATYPE = "audio", "BYTES"
LENGTH_BYTES = 4  # in front of each element of a binary tensor of BYTES, little-endian
OUTPUTS = {"genres": "BYTES", "probabilities": "FP32", "answer": "BYTES"}


# ---- Hugging Face


def hub_request(content_type: str, body: bytes) -> tuple[bytes, RequestOptions]:
    """Audio and options of a request in the form of the Hugging Face inference API.

    Args:
        content_type: media type of the body.
        body: the file itself, or JSON with "inputs" in base64 and "parameters".

    Raises:
        InvalidRequestError: the JSON is not of that form.
        InvalidOptionError: an unknown parameter or a value out of range.
    """
    if content_type != "application/json":
        return body, RequestOptions()
    content = _object(body)
    parameters = content.get("parameters") or {}
    if not isinstance(content.get("inputs"), str) or not isinstance(parameters, dict):
        raise InvalidRequestError(
            'the JSON body has no "inputs" (a file in base64), or its "parameters" is not an object'
        )
    wanted = dict(parameters)
    if wanted.pop("function_to_apply", None) not in (None, "softmax"):
        raise InvalidOptionError(
            "function_to_apply is not softmax: scores are calibrated probabilities"
        )
    return decode_base64(content["inputs"]), parse_options(wanted)


def hub_answer(prediction: Prediction) -> list[dict[str, object]]:
    """The genres as the Hugging Face inference API lists them, most probable first."""
    return [
        {"label": score["genre"], "score": score["probability"]}
        for score in prediction.to_dict()["predictions"]
    ]


# ---- Open Inference Protocol


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request to infer.

    Attributes:
        id: the caller's name of it, "" if none.
        files: content of each file.
        options: what is wanted, from the parameters.
        outputs: names of the wanted tensors, in order.
    """

    id: str
    files: tuple[bytes, ...]
    options: RequestOptions
    outputs: tuple[str, ...]


def parse_infer(request: Request, body: bytes, model: str, max_files: int) -> InferRequest:
    """A request of the protocol's infer call.

    Args:
        request: its headers.
        body: JSON, followed by binary tensors where the header says how long the JSON is.
        model: name of the model in the path.
        max_files: largest number of files.

    Raises:
        InvalidRequestError: the body is not of that form.
        InvalidOptionError: an unknown parameter or a value out of range.
    """
    stated = request.headers.get(HEADER_LENGTH, "")
    if stated and not (stated.isdigit() and int(stated) <= len(body)):
        raise InvalidRequestError(f"{HEADER_LENGTH} is {stated[:32]!r}, the body is shorter")
    n_json = int(stated) if stated else len(body)
    content = _object(body[:n_json])
    inputs = content.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise InvalidRequestError(f'"inputs" must have one tensor, {INPUT!r}')
    tensor = inputs[0]
    if tensor.get("name") != INPUT or tensor.get("datatype") != DATATYPE:
        raise InvalidRequestError(f"the input must be {INPUT!r} of datatype {DATATYPE}")
    files = _files(tensor, body[n_json:])
    if not 1 <= len(files) <= max_files:
        raise InvalidRequestError(f"the input has {len(files)} files, limits are 1 to {max_files}")
    parameters = content.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidRequestError('"parameters" must be an object')
    own = {k: v for k, v in parameters.items() if k != "binary_data_output"}
    options = replace(parse_options(own), model=model)
    return InferRequest(str(content.get("id", "")), files, options, _wanted(content))


def infer_reply(
    request: InferRequest, model: str, version: str, predictions: list[Prediction]
) -> dict[str, Any]:
    """The reply of the infer call: one row of each tensor per file."""
    bodies = [each.to_dict() for each in predictions]
    scores = [body["predictions"] for body in bodies]
    n_genres = min(map(len, scores))
    values: dict[str, tuple[list[int], list[Any]]] = {
        "genres": (
            [len(bodies), n_genres],
            [score["genre"] for row in scores for score in row[:n_genres]],
        ),
        "probabilities": (
            [len(bodies), n_genres],
            [score["probability"] for row in scores for score in row[:n_genres]],
        ),
        "answer": (
            [len(bodies)],
            [json.dumps(body, ensure_ascii=False, allow_nan=False) for body in bodies],
        ),
    }
    reply = {
        "model_name": model,
        "model_version": version,
        "outputs": [
            {
                "name": name,
                "datatype": OUTPUTS[name],
                "shape": values[name][0],
                "data": values[name][1],
            }
            for name in request.outputs
        ],
    }
    return {**reply, "id": request.id} if request.id else reply


def server_metadata() -> dict[str, Any]:
    """The protocol's description of the server."""
    return {"name": "acousticsense", "version": __version__, "extensions": ["binary_tensor_data"]}


def model_metadata(name: str, version: str, n_genres: int) -> dict[str, Any]:
    """The protocol's description of a model."""
    shapes = {"genres": [-1, n_genres], "probabilities": [-1, n_genres], "answer": [-1]}
    return {
        "name": name,
        "versions": [version],
        "platform": "acousticsense",
        "inputs": [{"name": INPUT, "datatype": DATATYPE, "shape": [-1]}],
        "outputs": [
            {"name": output, "datatype": datatype, "shape": shapes[output]}
            for output, datatype in OUTPUTS.items()
        ],
    }


async def classify_all(
    classify: Any, files: tuple[bytes, ...], options: RequestOptions
) -> list[Prediction]:
    """Answers about several files, in order; the first failure is that of the request."""
    return list(await asyncio.gather(*(classify(data, options) for data in files)))


def _files(tensor: dict[str, Any], binary: bytes) -> tuple[bytes, ...]:
    """Content of the files, from base64 in JSON or from the bytes behind it."""
    data = tensor.get("data")
    if isinstance(data, list):
        texts = data[0] if len(data) == 1 and isinstance(data[0], list) else data
        if not all(isinstance(each, str) for each in texts):
            raise InvalidRequestError('"data" must be files in base64')
        return tuple(decode_base64(text) for text in texts)
    stated = (tensor.get("parameters") or {}).get("binary_data_size")
    if stated != len(binary):
        raise InvalidRequestError(
            f"binary_data_size is {stated!r}, but {len(binary):,} bytes follow the JSON"
        )
    files, at = [], 0
    while at < len(binary):
        begun = at + LENGTH_BYTES
        at = begun + int.from_bytes(binary[at:begun], "little")
        if at > len(binary):
            raise InvalidRequestError("an element of the binary tensor is longer than the body")
        files.append(binary[begun:at])
    return tuple(files)


def _wanted(content: dict[str, Any]) -> tuple[str, ...]:
    outputs = content.get("outputs") or [{"name": name} for name in OUTPUTS]
    names = [each.get("name") if isinstance(each, dict) else None for each in outputs]
    unknown = [name for name in names if name not in OUTPUTS]
    if unknown:
        raise InvalidRequestError(
            f"output {str(unknown[0])[:64]!r} is unknown, known are {', '.join(OUTPUTS)}"
        )
    return tuple(str(name) for name in names)


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError("the body is not valid JSON") from error
    if not isinstance(content, dict):
        raise InvalidRequestError("the body is not a JSON object")
    return content
