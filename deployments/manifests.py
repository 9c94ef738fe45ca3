"""serveConfigV2 of the RayService, from serve_config.yaml and what a kind of cluster changes in it.

`k8s/serve/NAME/changes.yaml` has the form of serve_config.yaml and only the differences, so a
number that a cluster does not change stands in one file. The result is a kustomize patch, kept
beside it so that `kubectl apply -k` needs nothing else; a test holds it against its sources.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from acoustic.errors import ConfigError
from deployments.config import PROJECT_ROOT, read_yaml

SERVE_CONFIG = PROJECT_ROOT / "serve_config.yaml"
PROFILES = PROJECT_ROOT / "k8s" / "serve"
CHANGES_FILE, PATCH_FILE = "changes.yaml", "serve-config.yaml"
HEADER = "# Written by `acousticsense k8s render` from serve_config.yaml and changes.yaml.\n"


def render_patches(profiles: Path = PROFILES, source: Path = SERVE_CONFIG) -> dict[Path, str]:
    """Path → content of every patch.

    Raises:
        ConfigError: a file that cannot be read, or changes to a deployment that does not exist.
    """
    return {
        changes.with_name(PATCH_FILE): _patch(merge(read_yaml(source), read_yaml(changes)))
        for changes in sorted(profiles.glob(f"*/{CHANGES_FILE}"))
    }


def merge(base: Any, changes: Any, where: str = "") -> Any:
    """The base with changes laid over it.

    Mappings are merged, null removes a key, lists of named things are matched by their name, and
    anything else is replaced.

    Raises:
        ConfigError: a name that the base does not have.
    """
    if isinstance(base, dict) and isinstance(changes, dict):
        merged = {**base, **changes}
        for key in base.keys() & changes.keys():
            merged[key] = merge(base[key], changes[key], f"{where}{key}.")
        return {key: value for key, value in merged.items() if value is not None}
    if _is_named(base) and _is_named(changes):
        by_name = {item["name"]: item for item in changes}
        unknown = by_name.keys() - {item["name"] for item in base}
        if unknown:
            raise ConfigError(f"{where}{sorted(unknown)[0]}: serve_config.yaml has no such name")
        return [merge(item, by_name.get(item["name"], {}), where) for item in base]
    return changes


def _is_named(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(x, dict) and "name" in x for x in value)


class _Text(str):
    """Written as a block, line by line."""


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
