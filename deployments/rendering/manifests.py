"""Renders serveConfigV2 of the RayService from serve_config.yaml and a cluster profile's changes.

`k8s/serve/NAME/changes.yaml` has the form of serve_config.yaml and only the differences, so a
number that a cluster does not change stands in one file. The result is a kustomize patch, stored
beside it so that `kubectl apply -k` needs nothing else; a test checks it against its sources.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from acoustic.errors import ConfigError
from deployments.built_in import CHECKOUT, SERVE_CONFIG
from deployments.strict import read_yaml

PROFILES = CHECKOUT / "k8s" / "serve"
CHANGES_FILE, PATCH_FILE = "changes.yaml", "serve-config.yaml"
HEADER = "# Written by `acousticsense k8s render` from serve_config.yaml and changes.yaml.\n"


def render_patches(
    profiles: Path = PROFILES, source: Path = CHECKOUT / SERVE_CONFIG
) -> dict[Path, str]:
    """Content of every kustomize patch, by its path.

    Args:
        profiles: folder with one folder per cluster profile.
        source: serve_config.yaml, the base of all profiles.

    Raises:
        ConfigError: a file cannot be read, or changes name a deployment that does not exist.
    """
    return {
        changes.with_name(PATCH_FILE): _patch(merge(read_yaml(source), read_yaml(changes)))
        for changes in sorted(profiles.glob(f"*/{CHANGES_FILE}"))
    }


def merge(base: Any, changes: Any, where: str = "") -> Any:
    """The base with the changes merged into it.

    Mappings are merged, null removes a key, items of a list are matched by their name if all have
    one, and anything else is replaced. A stage of a further model, such as Classify-NAME, is added.

    Args:
        base: content of serve_config.yaml, or a part of it.
        changes: the differences, in the same form.
        where: path of the part, for the error message.

    Raises:
        ConfigError: the changes name an item that the base does not have.
    """
    if isinstance(base, dict) and isinstance(changes, dict):
        merged = {**base, **changes}
        for key in base.keys() & changes.keys():
            merged[key] = merge(base[key], changes[key], f"{where}{key}.")
        return {key: value for key, value in merged.items() if value is not None}
    if _is_named(base) and _is_named(changes):
        by_name = {item["name"]: item for item in changes}
        known = {item["name"] for item in base}
        added = [item for item in changes if item["name"] not in known]
        for item in added:
            stage, _, model = item["name"].partition("-")
            if not model or stage not in known:
                raise ConfigError(f"{where}{item['name']}: serve_config.yaml has no such item")
        return [*(merge(item, by_name.get(item["name"], {}), where) for item in base), *added]
    return changes


def _is_named(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(x, dict) and "name" in x for x in value)


class _Text(str):
    """Text that YAML writes as a literal block."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    _Text, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")
)


def _patch(content: dict[str, Any]) -> str:
    manifest = {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": "acousticsense"},
        "spec": {"serveConfigV2": _Text(yaml.safe_dump(content, sort_keys=False))},
    }
    return HEADER + yaml.dump(manifest, Dumper=_Dumper, sort_keys=False)
