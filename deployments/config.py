"""configs/*.yaml: what the service computes. How much of it runs where is serve_config.yaml's.

The settings are the dataclasses that stand next to each algorithm; this module nests them and
reads YAML into them strictly: an unknown key is an error, with the closest known one named.

Precedence: argument > environment (secrets and paths only) > YAML > default.
"""

from __future__ import annotations

import os
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from acoustic.classify.config import EngineConfig
from acoustic.errors import ConfigError
from acoustic.postprocess.postprocessor import PostprocessConfig
from acoustic.postprocess.rules import Rule
from acoustic.preprocess.cache import CacheConfig
from acoustic.preprocess.mel import MelConfig
from acoustic.preprocess.preprocessor import PreprocessConfig
from acoustic.preprocess.segments import WINDOWS_BY_EFFORT

PROJECT_ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT_VARIABLE = "ACOUSTICSENSE_CHECKPOINT"
API_KEY_VARIABLE = "ACOUSTICSENSE_API_KEY"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpConfig:
    """Limits of a request.

    Attributes:
        max_body_bytes: largest body.
        max_total_body_bytes: of all requests that one ingress replica works on at a time.
        max_files: files in one form.
        request_timeout_s: from the complete body to the reply.
        min_bytes_per_s: slowest mean upload rate, after the grace period.
        slow_body_grace_s: seconds before that rate counts.
        retry_after_s: told to callers that are refused when the queues are full.
    """

    max_body_bytes: int = 48 << 20
    max_total_body_bytes: int = 1 << 30
    max_files: int = 16
    request_timeout_s: float = 60.0
    min_bytes_per_s: float = 2_000.0
    slow_body_grace_s: float = 10.0
    retry_after_s: float = 1.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be positive")


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceConfig:
    """All settings of the service.

    Attributes:
        checkpoint: folder of the model, relative to the project's root.
        rules: file of music-knowledge rules, relative to the project's root, "" for none.
        preprocess: stage 1; the checkpoint's geometry replaces `mel`.
        cache: of features.
        engine: stage 2.
        postprocess: stage 3, live-tunable through user_config.
        http: limits.
    """

    checkpoint: str = "models/default"
    rules: str = "configs/rules.yaml"
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    http: HttpConfig = field(default_factory=HttpConfig)

    def __post_init__(self) -> None:
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
        return (PROJECT_ROOT / self.checkpoint).resolve()

    def to_public_dict(self) -> dict[str, Any]:
        """For /v1/config: no secrets (there are none in here) and no machine paths."""
        public = asdict(self)
        public["checkpoint"] = Path(self.checkpoint).name
        public["cache"]["folder"] = bool(self.cache.folder)
        public["preprocess"].pop("mel")
        return public


def load_config(path: Path) -> ServiceConfig:
    """Read a YAML file of settings, then the environment's overrides.

    Args:
        path: the file; keys that are left out keep their defaults.

    Raises:
        ConfigError: unreadable, an unknown key, a wrong type or a value that cannot work.
    """
    config = parse_strict(ServiceConfig, read_yaml(path), path.name)
    if config.rules:
        if config.postprocess.rules:
            raise ConfigError(f"{path.name}: rules stand both in {config.rules} and in postprocess")
        rules = load_rules(PROJECT_ROOT / config.rules)
        config = replace(config, postprocess=replace(config.postprocess, rules=rules))
    checkpoint = os.environ.get(CHECKPOINT_VARIABLE)
    return replace(config, checkpoint=checkpoint) if checkpoint else config


@dataclass(frozen=True, kw_only=True, slots=True)
class RulesFile:
    """Content of a file of rules.

    Attributes:
        rules: in the order in which they are applied.
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
        path: of the file.
        rules: in their order.
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


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        ConfigError: unreadable, not YAML, or not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path.name} holds no mapping")
    return content


def parse_strict(cls: type[T], values: dict[str, Any], where: str) -> T:
    """An instance of a (nested) config dataclass.

    Args:
        cls: the dataclass.
        values: as read from YAML or JSON.
        where: name for messages.

    Raises:
        ConfigError: an unknown key, a wrong type or a value that the dataclass refuses.
    """
    try:
        instance: T = _build(cls, _model(cls).model_validate(values))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in problem["loc"])
        raise ConfigError(f"{where}: {name}: {problem['msg'].lower()}") from error
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
    return instance


def _model(cls: Any) -> type[BaseModel]:
    """A pydantic model of a dataclass that forbids what the dataclass does not know."""
    hints = get_type_hints(cls)
    definitions: dict[str, Any] = {}
    for item in fields(cls):
        hint = hints[item.name]
        if is_dataclass(hint):
            hint = _model(hint)
        elif each := _dataclass_in_tuple(hint):
            hint = tuple[_model(each), ...]  # type: ignore[misc]
        definitions[item.name] = (hint, None if _has_default(item) else ...)
    return create_model(cls.__name__, __config__=ConfigDict(extra="forbid"), **definitions)


def _build(cls: Any, model: BaseModel) -> Any:
    """The dataclass from what was set; defaults stay the dataclass's own."""
    hints = get_type_hints(cls)
    values = {name: getattr(model, name) for name in model.model_fields_set}
    return cls(**{name: _build_value(hints[name], value) for name, value in values.items()})


def _build_value(hint: Any, value: Any) -> Any:
    if is_dataclass(hint):
        return _build(hint, value)
    if each := _dataclass_in_tuple(hint):
        return tuple(_build(each, item) for item in value)
    return value


def _dataclass_in_tuple(hint: Any) -> Any:
    """The dataclass D of a hint tuple[D, ...], else None."""
    arguments = get_args(hint) if get_origin(hint) is tuple else ()
    return arguments[0] if arguments and is_dataclass(arguments[0]) else None


def _has_default(item: Field[Any]) -> bool:
    return item.default is not MISSING or item.default_factory is not MISSING
