"""Strict validation of serve_config.yaml: unknown keys, names and settings are reported.

Serve's own schemas ignore keys that they do not know, so `max_ongoing_request` or `num_gpu`
would be dropped silently and the service would run with defaults. Here every mapping is checked
against the fields of Serve's own models, our deployments' names and our own settings.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ray.serve.schema import ServeDeploySchema

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.errors import AcousticError, ConfigError
from acoustic.postprocess.calibration import load_calibration
from deployments.app import AppArgs
from deployments.built_in import root
from deployments.config import ServiceConfig, check_models, load_config, merge_config
from deployments.strict import read_yaml

IMPORT_PATH = "deployments.app:build"
DEPLOYMENTS = {
    "chain": ("Ingress", "Preprocess", "Classify", "Postprocess"),
    "colocated": ("Ingress", "Colocated"),
}
"""Topology → names of its deployments, of further models with -NAME behind."""


def check_serve_config(path: Path) -> list[str]:
    """Problems found in a Serve config file, each with its location; empty if it is valid.

    Args:
        path: YAML file with a Serve deploy configuration.
    """
    try:
        content = read_yaml(path)
    except ConfigError as error:
        return [error.message]
    problems = list(_unknown_keys(content, ServeDeploySchema, ""))
    try:
        ServeDeploySchema.model_validate(content)
    except ValidationError as error:
        return problems + [_describe(problem) for problem in error.errors()]
    except (AttributeError, TypeError):  # Serve's own validators crash on a wrong type
        return [*problems, "applications.deployments: each must be a mapping with a name"]
    for application in content.get("applications") or []:
        if application["import_path"] == IMPORT_PATH:
            problems += _check_application(application, path)
        else:
            problems.append(f"applications.import_path: must be {IMPORT_PATH}")
    return problems


def _check_application(application: dict[str, Any], path: Path) -> list[str]:
    """Problems that only this project can see: deployment names, args, settings, checkpoint."""
    problems: list[str] = []
    topology = (application.get("args") or {}).get("topology", "chain")
    known = DEPLOYMENTS.get(topology, ())
    for deployment in application.get("deployments") or []:
        name = deployment.get("name")
        if known and str(name).partition("-")[0] not in known:
            problems.append(
                f"deployments: unknown name {name!r}{_hint(str(name), known)}, those of topology "
                f"{topology} are {', '.join(known)}"
            )
    try:
        args = AppArgs.model_validate(application.get("args") or {})
    except ValidationError as error:
        return problems + [f"args.{_describe(problem)}" for problem in error.errors()]
    try:
        config = load_config(settings_file(path, args.config))
        check_models(config)
        for model in ("", *config.models):
            load_calibration(CheckpointFolder.open(config.model_folder(model)))
        problems += _unknown_models(application, config)
        for deployment in application.get("deployments") or []:
            if str(deployment.get("name")).partition("-")[0] in ("Postprocess", "Colocated"):
                merge_config(config.postprocess, deployment.get("user_config") or {})
    except AcousticError as error:
        problems.append(error.message)
    return problems


def _unknown_models(application: dict[str, Any], config: ServiceConfig) -> Iterator[str]:
    """Deployments of models that the settings do not have."""
    for deployment in application.get("deployments") or []:
        stage, _, model = str(deployment.get("name")).partition("-")
        if model and (stage == "Ingress" or model not in config.models):
            yield f"deployments: {stage}-{model}: the settings have no model {model!r}"


def settings_file(serve_config: Path, name: str) -> Path:
    """The settings file that a Serve configuration names.

    Args:
        serve_config: path of the Serve configuration.
        name: its `args.config`: relative to that file, or else to the built-in files.
    """
    beside = serve_config.parent / name
    return beside if beside.exists() else root() / name


def _unknown_keys(values: Any, model: type[BaseModel], where: str) -> Iterator[str]:
    """Keys of a mapping, including nested mappings, that the model does not define."""
    if not isinstance(values, dict):
        return
    known = {field.alias or name for name, field in model.model_fields.items()}
    for key, value in values.items():
        if key not in known:
            yield f"{where}{key}: unknown key{_hint(str(key), known)}"
            continue
        nested = _nested_model(model.model_fields[key].annotation)
        if nested is None:
            continue
        items = value if isinstance(value, list) else [value]
        for item in items:
            yield from _unknown_keys(item, nested, f"{where}{key}.")


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model in an annotation such as `Optional[List[Model]]`, else None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, list, None) or get_args(annotation):
        models = (_nested_model(argument) for argument in get_args(annotation))
        return next((model for model in models if model is not None), None)
    return None


def _describe(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg'].lower()}"


def _hint(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""
