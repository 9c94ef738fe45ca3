"""Merging a cluster's changes into serve_config.yaml, and the patch that holds the result."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from acoustic.errors import ConfigError
from deployments.rendering.manifests import CHANGES_FILE, HEADER, PATCH_FILE, merge, render_patches

BASE: dict[str, Any] = {
    "http_options": {"host": "0.0.0.0", "port": 8000},
    "applications": [
        {
            "name": "app",
            "args": {"accelerator": "auto"},
            "deployments": [
                {"name": "Ingress", "max_ongoing_requests": 100},
                {"name": "Classify", "ray_actor_options": {"num_gpus": 0}, "sizes": [1, 2]},
            ],
        }
    ],
}


@pytest.mark.parametrize(
    ("base", "changes", "expected"),
    [
        ({"a": 1, "b": 2}, {"b": 3}, {"a": 1, "b": 3}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}}, {"a": {"x": 1, "y": 3}}),
        ({"a": 1, "b": 2}, {"b": None}, {"a": 1}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"x": None}}, {"a": {"y": 2}}),
        ({"a": 1}, {"new": {"x": 1}}, {"a": 1, "new": {"x": 1}}),
        ({"a": [1, 2, 3]}, {"a": [4]}, {"a": [4]}),
        ({"a": {"x": 1}}, {"a": 5}, {"a": 5}),
        ({"a": 5}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 0, "b": "", "c": False}, {"a": 0}, {"a": 0, "b": "", "c": False}),
    ],
)
def test_mappings_are_merged_and_other_values_replaced(
    base: Any, changes: Any, expected: Any
) -> None:
    assert merge(base, changes) == expected


def test_named_items_keep_the_order_of_the_base() -> None:
    base = [{"name": "a", "n": 1}, {"name": "b", "n": 2}, {"name": "c", "n": 3}]
    changes = [{"name": "c", "n": 30}, {"name": "a", "n": 10}]
    assert [item["n"] for item in merge(base, changes)] == [10, 2, 30]


def test_no_change_is_the_base_and_neither_is_modified() -> None:
    base, changes = copy.deepcopy(BASE), {"http_options": {"port": 9000}}
    assert merge(base, {}) == BASE
    merge(base, changes)
    assert base == BASE
    assert changes == {"http_options": {"port": 9000}}


def test_merging_twice_is_merging_once() -> None:
    changes = {"applications": [{"name": "app", "args": {"accelerator": "cuda"}}]}
    once = merge(BASE, changes)
    assert merge(once, changes) == once


def test_an_unknown_item_is_named_with_its_place() -> None:
    changes = {"applications": [{"name": "app", "deployments": [{"name": "Clasify"}]}]}
    with pytest.raises(ConfigError, match=r"applications\.deployments\.Clasify: .* no such item"):
        merge(BASE, changes)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two profiles and the file that they change."""
    source = tmp_path / "serve_config.yaml"
    source.write_text(yaml.safe_dump(BASE))
    for name, port in (("b", 2), ("a", 1)):
        folder = tmp_path / "serve" / name
        folder.mkdir(parents=True)
        (folder / CHANGES_FILE).write_text(f"http_options: {{port: {port}}}\n")
    (tmp_path / "serve" / "empty").mkdir()
    return tmp_path / "serve", source


def test_every_profile_gets_a_patch_beside_its_changes(folders: tuple[Path, Path]) -> None:
    profiles, source = folders
    patches = render_patches(profiles, source)
    assert list(patches) == [profiles / "a" / PATCH_FILE, profiles / "b" / PATCH_FILE]
    assert not (profiles / "a" / PATCH_FILE).exists(), "only returned, not written"
    for text, port in zip(patches.values(), (1, 2), strict=True):
        manifest = yaml.safe_load(text)
        assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayService")
        content = yaml.safe_load(manifest["spec"]["serveConfigV2"])
        assert content == merge(BASE, {"http_options": {"port": port}})
        assert list(content) == list(yaml.safe_load(source.read_text())), "keys keep their order"


def test_a_patch_can_be_read_by_people(folders: tuple[Path, Path]) -> None:
    text = next(iter(render_patches(*folders).values()))
    assert text.startswith(HEADER)
    assert "serveConfigV2: |\n" in text, "a literal block, not one long line"


@pytest.mark.parametrize(
    ("changes", "message"),
    [("a: [", "cannot be read"), ("- a", "does not hold a mapping"),
     ("applications: [{name: other}]", "no such item")],
)  # fmt: skip
def test_changes_that_cannot_be_used_are_rejected(
    folders: tuple[Path, Path], changes: str, message: str
) -> None:
    profiles, source = folders
    (profiles / "a" / CHANGES_FILE).write_text(changes)
    with pytest.raises(ConfigError, match=message):
        render_patches(profiles, source)
