"""Reads configs/*.yaml, which state what the service computes.

How much of it runs where is stated in serve_config.yaml.

The settings are the dataclasses that stand next to each algorithm; this module nests them.

Precedence: argument > environment (secrets and paths only) > YAML > default.
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from acoustic.checkpoint_folder import CheckpointFolder
from acoustic.classify.engine_config import EngineConfig
from acoustic.content_cache import CacheConfig
from acoustic.errors import ConfigError
from acoustic.geometry import MelConfig
from acoustic.postprocess.postprocess_config import PostprocessConfig
from acoustic.postprocess.rules import Rule
from acoustic.preprocess.preprocessor import PreprocessConfig
from acoustic.preprocess.sandbox_child import SandboxConfig
from acoustic.preprocess.segments import WINDOWS_BY_EFFORT
from deployments.built_in import DEFAULT_CHECKPOINT, DEFAULT_SETTINGS, RULES, TAXONOMIES, built_in
from deployments.sources.config import SourcesConfig
from deployments.strict import parse_strict, read_yaml
from deployments.taxonomies import load_taxonomies

BUILT_IN = "default"
"""Names the built-in checkpoint or file of rules in place of a path."""

CHECKPOINT_VARIABLE = "ACOUSTICSENSE_CHECKPOINT"
MODELS_VARIABLE = "ACOUSTICSENSE_MODELS"
API_KEY_VARIABLE = "ACOUSTICSENSE_API_KEY"
API_KEYS_FILE_VARIABLE = "ACOUSTICSENSE_API_KEYS_FILE"


MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9.]{0,31}")
ORIGIN = re.compile(r"https?://[^/?#\s]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpConfig:
    """Limits of a request.

    Attributes:
        max_body_bytes: largest body, bytes.
        max_total_body_bytes: largest sum of the bodies of all requests that one ingress replica
            works on at a time, with the copies of them that it makes, bytes.
        max_total_window_bytes: largest sum of the windows of all requests between the stages,
            bytes; it matters for models with long windows.
        max_files: largest number of files in one form.
        request_timeout_s: longest time from the complete body to the reply, seconds.
        min_bytes_per_s: slowest upload rate over the last `slow_body_grace_s`, bytes per second.
        slow_body_grace_s: seconds for which an upload may stand still.
        max_upload_s: longest time that the service waits for one body, seconds.
        large_body_bytes: length from which a body counts as a large one, bytes.
        max_large_bodies: most large bodies that one ingress replica takes at a time.
        max_wait_s: longest expected wait of a request that is admitted, seconds; beyond it callers
            are refused at once with the time after which to try again.
        retry_after_s: seconds in the Retry-After header of callers that are rejected when the
            queues are full.
        max_query_bytes: longest query string, bytes.
        allow_origins: origins of pages elsewhere that may call the service, such as
            "https://music.example"; "*" for all, empty for none.
    """

    max_body_bytes: int = 48 << 20
    max_total_body_bytes: int = 1 << 30
    max_total_window_bytes: int = 512 << 20
    max_files: int = 16
    request_timeout_s: float = 60.0
    min_bytes_per_s: float = 2_000.0
    slow_body_grace_s: float = 10.0
    max_upload_s: float = 900.0
    large_body_bytes: int = 8 << 20
    max_large_bodies: int = 4
    max_wait_s: float = 2.5
    retry_after_s: float = 1.0
    max_query_bytes: int = 4_096
    allow_origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if name != "allow_origins" and getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be positive")
        for origin in self.allow_origins:
            if origin != "*" and not ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"allow_origins has {origin!r}, which is not an origin such as "
                    "https://music.example or http://localhost:5173"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceConfig:
    """All settings of the service.

    Attributes:
        checkpoint: folder of the model, relative to the settings file; "default" is the built-in
            one.
        models: name → folder of further models, relative to the settings file; requests name one.
        rules: file of music-knowledge rules, relative to the settings file; "default" is the
            built-in one, "" for none.
        taxonomies: folder of taxonomies, relative to the settings file; "default" is the built-in
            one, "" for none.
        preprocess: stage 1; the checkpoint's geometry replaces `mel`.
        cache: bounds of the feature cache.
        engine: stage 2.
        postprocess: stage 3; can be changed while the service runs, through user_config.
        http: limits of a request.
        sandbox: limits of the processes that decode.
        sources: places from which audio is read by reference; none by default.
    """

    checkpoint: str = BUILT_IN
    models: dict[str, str] = field(default_factory=dict)
    rules: str = BUILT_IN
    taxonomies: str = BUILT_IN
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    sources: SourcesConfig = field(default_factory=SourcesConfig)

    def __post_init__(self) -> None:
        for name in self.models:
            if not MODEL_NAME.fullmatch(name):
                raise ValueError(
                    f"models has {name!r}: names are 1 to 32 lower-case letters, digits and dots"
                )
        if self.preprocess.mel != MelConfig():
            raise ValueError("preprocess.mel: the geometry belongs to the checkpoint")
        most_windows = max(WINDOWS_BY_EFFORT.values())
        if most_windows > self.engine.batch_sizes[-1]:
            raise ValueError(
                f"a track has up to {most_windows} windows, but the largest batch is "
                f"{self.engine.batch_sizes[-1]}"
            )

    @property
    def checkpoint_folder(self) -> Path:
        """Absolute path of the checkpoint."""
        if self.checkpoint == BUILT_IN:
            return built_in(DEFAULT_CHECKPOINT)
        return Path(self.checkpoint).absolute()

    def model_folder(self, name: str) -> Path:
        """Absolute path of the checkpoint of a model; "" for the one that answers by default."""
        if not name:
            return self.checkpoint_folder
        folder = self.models[name]
        return built_in(DEFAULT_CHECKPOINT) if folder == BUILT_IN else Path(folder).absolute()

    def to_public_dict(self) -> dict[str, Any]:
        """For /v1/config: no secrets (there are none in here) and no machine paths."""
        public = asdict(self)
        public["checkpoint"] = self.checkpoint_folder.name
        public["models"] = {name: Path(folder).name for name, folder in self.models.items()}
        public["rules"] = Path(self.rules).name
        public["taxonomies"] = Path(self.taxonomies).name
        public["cache"]["folder"] = bool(self.cache.folder)
        public["preprocess"].pop("mel")
        public["sources"] = self.sources.is_on
        return public


def load_config(path: Path | None = None) -> ServiceConfig:
    """Read a YAML file of settings, then the environment's overrides.

    Args:
        path: the file; keys that are left out keep their defaults. None for the built-in file.
            Relative paths in it are relative to the file; one in the environment is relative to
            the working directory.

    Raises:
        ConfigError: unreadable, an unknown key, a wrong type or a value that cannot work.
    """
    path = built_in(DEFAULT_SETTINGS) if path is None else path
    config = parse_strict(ServiceConfig, read_yaml(path), path.name)
    if config.rules:
        if config.postprocess.rules:
            raise ConfigError(f"{path.name}: rules stand both in {config.rules} and in postprocess")
        file = built_in(RULES) if config.rules == BUILT_IN else path.parent / config.rules
        config = replace(config, postprocess=replace(config.postprocess, rules=load_rules(file)))
    if config.taxonomies:
        known = config.taxonomies == BUILT_IN
        folder = built_in(TAXONOMIES) if known else path.parent / config.taxonomies
        found = load_taxonomies(folder)
        config = replace(config, postprocess=replace(config.postprocess, taxonomies=found))
    models = {name: _absolute(path.parent, each) for name, each in config.models.items()}
    config = replace(config, models=models)
    config = replace(config, models={**config.models, **_models_of_environment()})
    checkpoint = os.environ.get(CHECKPOINT_VARIABLE)
    if checkpoint:
        return replace(config, checkpoint=_absolute(Path.cwd(), checkpoint))
    return replace(config, checkpoint=_absolute(path.parent, config.checkpoint))


def check_models(config: ServiceConfig) -> None:
    """Open the checkpoints of all models.

    Raises:
        CheckpointError: one cannot be used.
        ConfigError: a further model has the name of the default one.
    """
    default = CheckpointFolder.open(config.checkpoint_folder).manifest.name
    for name in config.models:
        CheckpointFolder.open(config.model_folder(name))
        if name == default:
            raise ConfigError(f"models has {name!r}, which is the name of the default model")


def _models_of_environment() -> dict[str, str]:
    """Further models of MODELS_VARIABLE, such as "ast=models/ast,maest=/data/maest"."""
    found = {}
    for each in filter(None, os.environ.get(MODELS_VARIABLE, "").split(",")):
        name, _, folder = each.strip().partition("=")
        if not MODEL_NAME.fullmatch(name) or not folder:
            raise ConfigError(f"{MODELS_VARIABLE} has {each!r}, expected name=folder")
        found[name] = _absolute(Path.cwd(), folder)
    return found


def _absolute(folder: Path, checkpoint: str) -> str:
    """The checkpoint's path; links are kept, because Kubernetes mounts the settings by links."""
    if checkpoint == BUILT_IN:
        return checkpoint
    return os.path.abspath(folder / checkpoint)


@dataclass(frozen=True, kw_only=True, slots=True)
class RulesFile:
    """Content of a file of rules.

    Attributes:
        rules: rules, in the order in which they are applied.
    """

    rules: tuple[Rule, ...] = ()


def load_rules(path: Path) -> tuple[Rule, ...]:
    """Music-knowledge rules of a YAML file.

    Raises:
        ConfigError: unreadable, an unknown key, a wrong type or a value out of range.
    """
    return parse_strict(RulesFile, read_yaml(path), path.name).rules


def save_rules(path: Path, rules: tuple[Rule, ...], head: str = "") -> None:
    """Write a file of rules that `load_rules` reads.

    Args:
        path: path of the file.
        rules: rules to write, in order.
        head: comment lines at the top.
    """
    rows = [
        {
            **asdict(rule),
            "genres": list(rule.genres),
            "when": [{k: v for k, v in asdict(c).items() if v is not None} for c in rule.when],
        }
        for rule in rules
    ]
    text = yaml.safe_dump({"rules": rows}, sort_keys=False, allow_unicode=True)
    path.write_text(head + text, encoding="utf-8")


def merge_config(base: PostprocessConfig, changes: dict[str, Any]) -> PostprocessConfig:
    """The base with some fields, nested ones included, replaced.

    Raises:
        ConfigError: an unknown field or a value out of range.
    """
    if "taxonomies" in changes:  # the ingress checks requests against those of the start
        raise ConfigError("user_config: taxonomies are read at the start, from their folder")
    merged: dict[str, Any] = asdict(base)
    for key, value in changes.items():
        if isinstance(merged.get(key), dict):
            if not isinstance(value, dict):
                raise ConfigError(f"user_config: {key} is not a mapping")
            merged[key] = {**merged[key], **value}
        else:
            merged[key] = value
    return parse_strict(PostprocessConfig, merged, "user_config")
