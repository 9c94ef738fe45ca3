"""The OpenAPI document: complete, described, and as strict as the service."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from starlette.routing import Route
from starlette.testclient import TestClient

from acoustic.errors import AudioTooShortError
from acoustic.example import example_wav
from acoustic.pipeline import Pipeline
from acoustic.prediction import Prediction
from acoustic.request import RequestOptions
from acoustic.schema import attribute_descriptions
from deployments.http.errors import STATUS_BY_CODE, error_body
from deployments.http.middleware import PUBLIC_PATHS
from deployments.http.openapi import answer_schemas, openapi_document
from deployments.http.options import NAMES
from deployments.http.page import is_public
from tests.support.paths import ROOT
from tests.support.schema import check_schema
from tests.support.sounds import encode, sweep

DOCUMENT = openapi_document()
OPERATIONS = [each for path in DOCUMENT["paths"].values() for each in path.values()]
SCHEMAS = DOCUMENT["components"]["schemas"]
CLASSIFY = DOCUMENT["paths"]["/v1/classify"]["post"]
ERROR = {"error": error_body(AudioTooShortError("0.3 s")), "request_id": "abc"}


@pytest.fixture(scope="module")
def bodies(tiny_checkpoint: Path) -> list[dict[str, Any]]:
    """Answers with and without the optional parts."""
    pipeline = Pipeline.from_folder(tiny_checkpoint)
    music, tone = example_wav(30), encode(sweep(20.0), 22_050)
    options = (
        RequestOptions(),
        RequestOptions(effort="auto", top_k=16, coverage=0.5, timeline=True, file="Björk.mp3"),
        RequestOptions(effort="fast", top_k=1),
    )
    return [pipeline.classify(data, each).to_dict() for data in (music, tone) for each in options]


@pytest.mark.parametrize("name", sorted(answer_schemas()))
def test_every_field_of_an_answer_is_described(name: str) -> None:
    schema = SCHEMAS[name]
    assert schema["description"]
    assert schema["properties"]
    for field, place in schema["properties"].items():
        assert place["description"], f"{name}.{field}"
        assert "\n" not in place["description"]


def test_descriptions_are_those_of_the_dataclass() -> None:
    described = attribute_descriptions(Prediction)
    properties = SCHEMAS["Prediction"]["properties"]
    assert {name: place["description"] for name, place in properties.items()} == described


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_schema_is_valid_and_closed(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["additionalProperties"] is False


def test_every_error_code_is_listed_under_its_status() -> None:
    listed = {
        int(status): set(reply["description"].split(", "))
        for status, reply in CLASSIFY["responses"].items()
        if status != "200"
    }
    expected: dict[int, set[str]] = {}
    for code, status in STATUS_BY_CODE.items():
        expected.setdefault(status, set()).add(code)
    assert listed == expected
    for status, reply in CLASSIFY["responses"].items():
        schema = reply["content"]["application/json"]["schema"]
        assert status == "200" or schema == {"$ref": "#/components/schemas/Error"}


def test_every_option_is_a_parameter_and_a_field_of_json() -> None:
    parameters = {each["name"]: each for each in CLASSIFY["parameters"]}
    properties = SCHEMAS["JsonRequest"]["properties"]
    assert set(parameters) == set(NAMES) == set(properties) - {"audio"}
    for name, each in parameters.items():
        assert (each["in"], each["required"]) == ("query", False)
        assert each["schema"] == properties[name]
        assert each["schema"]["description"]
    assert parameters["effort"]["schema"]["enum"] == ["fast", "balanced", "thorough", "auto"]
    assert parameters["effort"]["schema"]["default"] == "balanced"


def test_operations_have_names_of_their_own() -> None:
    names = [each["operationId"] for each in OPERATIONS]
    assert len(names) == len(set(names)) == 17
    assert all(each["summary"] for each in OPERATIONS)
    tags = {each["name"] for each in DOCUMENT["tags"]}
    assert {tag for each in OPERATIONS for tag in each["tags"]} == tags


def test_the_document_lists_every_route(client: TestClient) -> None:
    routes = {
        (route.path, method)
        for route in client.app.routes  # type: ignore[attr-defined]
        if isinstance(route, Route) and route.path not in ("/", "/docs")
        for method in (route.methods or ()) - {"HEAD"}
    }
    listed = {
        (path, method.upper())
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
    }
    assert listed == routes


def test_examples_are_what_the_service_sends() -> None:
    content = CLASSIFY["responses"]["200"]["content"]["application/json"]
    check_schema(content["example"])
    blocks = re.findall(r"```json\n(.*?)```", (ROOT / "docs/http.md").read_text(), re.DOTALL)
    assert content["example"] in [json.loads(block) for block in blocks if block.startswith("{")]
    for operation in OPERATIONS:
        for status, reply in operation["responses"].items():
            example = reply.get("content", {}).get("application/json", {}).get("example")
            if example is None or status == "200":
                continue
            check_schema(example, "Error")
            assert STATUS_BY_CODE[example["error"]["code"]] == int(status)


def test_every_operation_that_needs_a_key_says_so() -> None:
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            is_open = path in PUBLIC_PATHS or is_public(path)
            assert (operation.get("security") == []) == is_open, path
            assert ("401" in operation["responses"]) != is_open, path


def test_answers_have_the_documented_schema(bodies: list[dict[str, Any]]) -> None:
    for body in bodies:
        check_schema(body)


def test_other_replies_have_theirs(bodies: list[dict[str, Any]]) -> None:
    check_schema(ERROR, "Error")
    failed = {"file": "b.txt", "error": ERROR["error"]}
    check_schema(failed, "FileError")
    check_schema({"results": [bodies[0], failed]}, "Results")
    check_schema({"audio": "AAAA"}, "JsonRequest")
    check_schema({"audio": "AAAA", "top_k": None, "effort": "auto", "file": "a"}, "JsonRequest")


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Path of every object in a JSON value, but for those whose keys are names of steps."""
    if isinstance(node, dict) and "timings_ms" not in path:
        yield path
        for key, value in node.items():
            if key != "timings_ms":
                yield from places(value, (*path, key))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from places(value, (*path, i))


def at(body: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    node: Any = body
    for key in path:
        node = node[key]
    found: dict[str, Any] = node
    return found


def test_no_further_key_passes_at_any_level(bodies: list[dict[str, Any]]) -> None:
    found = {path: body for body in bodies for path in places(body)}
    assert len({path[0] for path in found if path}) >= 6
    for path, body in found.items():
        changed = copy.deepcopy(body)
        at(changed, path)["surprise"] = 1
        with pytest.raises(ValidationError, match="surprise"):
            check_schema(changed)


def test_no_key_may_be_missing_at_any_level(bodies: list[dict[str, Any]]) -> None:
    for path in places(bodies[0]):
        for key in at(bodies[0], path):
            changed = copy.deepcopy(bodies[0])
            del at(changed, path)[key]
            with pytest.raises(ValidationError):
                check_schema(changed)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("Error", {**ERROR, "surprise": 1}),
        ("Error", {"error": {**ERROR["error"], "surprise": 1}, "request_id": "a"}),
        ("Error", {"error": ERROR["error"]}),
        ("Error", {"error": {"code": "x"}, "request_id": "a"}),
        ("FileError", {"file": "a"}),
        ("Results", {"results": [{"file": "a"}]}),
        ("Results", {"results": [], "n": 0}),
        ("JsonRequest", {}),
        ("JsonRequest", {"audio": "AAAA", "surprise": 1}),
        ("JsonRequest", {"audio": "AAAA", "effort": "extreme"}),
        ("JsonRequest", {"audio": "AAAA", "top_k": "many"}),
    ],
)
def test_what_the_service_does_not_send_or_accept_is_invalid(name: str, body: Any) -> None:
    with pytest.raises(ValidationError):
        check_schema(body, name)


@pytest.mark.parametrize(
    ("field", "value"),
    [("confidence", "high"), ("duration_s", "3"), ("segments", [[0]]), ("needs_review", None),
     ("file", None), ("top_genre", 3), ("uncertainty", None), ("predictions", {})],
)  # fmt: skip
def test_a_value_of_another_type_is_invalid(
    bodies: list[dict[str, Any]], field: str, value: Any
) -> None:
    with pytest.raises(ValidationError):
        check_schema({**bodies[0], field: value})


def test_null_stands_only_where_it_is_documented(bodies: list[dict[str, Any]]) -> None:
    nullable = {
        "duration_s", "prediction_set", "family", "timeline", "prediction_sets", "styles",
    }  # fmt: skip
    for name in Prediction.__dataclass_fields__:
        body = {**bodies[0], name: None}
        if name in nullable:
            check_schema(body)
        else:
            with pytest.raises(ValidationError):
                check_schema(body)


def test_the_document_is_built_anew_each_time() -> None:
    changed = openapi_document()
    changed["components"]["schemas"].clear()
    assert openapi_document() == DOCUMENT
