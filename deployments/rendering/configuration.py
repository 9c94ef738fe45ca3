"""docs/configuration.md, from the dataclasses of the settings: every key, meaning, default, values.

The sentences are those of the Attributes blocks, the defaults those of the code; nothing is
written twice. `acousticsense k8s render` writes the page, a test holds it against the code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from acoustic.schema import attribute_descriptions
from deployments.app import AppArgs
from deployments.built_in import CHECKOUT
from deployments.config import (
    API_KEY_VARIABLE,
    API_KEYS_FILE_VARIABLE,
    CHECKPOINT_VARIABLE,
    MODELS_VARIABLE,
    ServiceConfig,
)

PAGE = CHECKOUT / "docs" / "configuration.md"
LEFT_OUT = {"preprocess.mel", "postprocess.rules", "postprocess.taxonomies"}
"""Not settings of this file: the checkpoint has the geometry, files of their own the others."""

LIVE = "postprocess"
"""The section that can change while the service runs."""

HEADER = """\
# Configuration

Written by `acousticsense k8s render` from the settings' own classes; every key has a test.

What the service computes stands in a settings file, of which `configs/default.yaml` is the built-in
one; how much of it runs where stands in `serve_config.yaml`.
A key that is left out keeps its default, an unknown one is rejected with the closest known name.
Relative paths in a settings file are relative to that file.

```console
acousticsense config check                     # the built-in files
acousticsense config check my/serve_config.yaml
acousticsense serve my/serve_config.yaml       # its args.config names your settings file
acousticsense classify song.mp3 --config my/settings.yaml
```

Precedence: command-line option, then environment variable, then file, then default.

"""

ENVIRONMENT = f"""\
## Environment variables

| variable | meaning |
|---|---|
| `{CHECKPOINT_VARIABLE}` | folder of the model, instead of the settings' `checkpoint` |
| `{MODELS_VARIABLE}` | further models as `name=folder`, separated by commas |
| `{API_KEY_VARIABLE}` | secret that callers must send as `Authorization: Bearer …`; unset: open |
| `{API_KEYS_FILE_VARIABLE}` | file of named keys with limits, read again when it changes |
| `RAY_ADDRESS` | Ray cluster to use; unset: a local one |
| `RAY_SERVE_ENABLE_HA_PROXY` | 1 (set by `acousticsense serve` if unset) or 0 |
| `AWS_*`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_*` | credentials of object stores |
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """One setting.

    Attributes:
        name: dotted path in the file.
        values: type, or the allowed values.
        default: as it would stand in YAML.
        meaning: sentence of the docstring.
    """

    name: str
    values: str
    default: str
    meaning: str


def render_configuration() -> dict[Path, str]:
    """Path → content of the page."""
    return {PAGE: HEADER + "\n".join([*_sections(), ENVIRONMENT])}


def keys(cls: Any = ServiceConfig, prefix: str = "") -> Iterator[Key]:
    """Every setting of a (nested) dataclass, in order."""
    hints, described = get_type_hints(cls), attribute_descriptions(cls)
    for field in fields(cls):
        name, hint = prefix + field.name, hints[field.name]
        if name in LEFT_OUT:
            continue
        if is_dataclass(hint):
            yield from keys(hint, f"{name}.")
        else:
            yield Key(
                name=name,
                values=_values(hint),
                default=_default(field),
                meaning=described[field.name],
            )


def _sections() -> Iterator[str]:
    by_section: dict[str, list[Key]] = {}
    for key in keys():
        section = key.name.partition(".")[0] if "." in key.name else ""
        by_section.setdefault(section, []).append(key)
    for section, found in by_section.items():
        title = f"## `{section}`" if section else "## The settings file"
        live = (
            "\nThese keys can change while the service runs, through `user_config` of "
            "`Postprocess` in `serve_config.yaml`; see [the answer](answer.md).\n"
            if section == LIVE
            else ""
        )
        yield f"{title}\n{live}\n{_table(found)}"
    arguments = [
        Key(
            name=name,
            values=_values(field.annotation),
            default=_yaml(field.default),
            meaning=attribute_descriptions(AppArgs)[name],
        )
        for name, field in AppArgs.model_fields.items()
    ]
    yield (
        "## `args` of the application in `serve_config.yaml`\n\n"
        "Everything else in that file is Ray Serve's own configuration; "
        "`acousticsense config check` also checks its keys.\n\n" + _table(arguments)
    )


def _table(found: list[Key]) -> str:
    lines = ["| key | values | default | meaning |", "|---|---|---|---|"]
    lines += [f"| `{k.name}` | {k.values} | `{k.default}` | {k.meaning} |" for k in found]
    return "\n".join(lines) + "\n"


def _values(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ", ".join(f"`{each}`" for each in arguments)
    if origin in (Union, UnionType):
        parts = [_values(each) for each in arguments if each is not NoneType]
        return " or ".join([*parts, "null"] if NoneType in arguments else parts)
    if origin is tuple:
        return f"list of {_values(arguments[0])}"
    names = {int: "integer", float: "number", str: "text", bool: "true, false"}
    return names.get(hint, str(hint))


def _default(field: Field[Any]) -> str:
    if field.default_factory is not MISSING:
        return _yaml(field.default_factory())
    return _yaml(field.default)


def _yaml(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return '""' if value == "" else str(value)
